"""Reviewer and paper matching: 58 people, 3,374 papers, 477 grades of expertise; Stelmakh et al. 2023.

Pairs of a person's papers and a candidate paper do not fit a ``Table`` of rows, concepts and a class: a plain reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.data.datasets._files import packed, read_jsonl
from isthmus.data.table import DataCard
from isthmus.errors import DataError

CARD = DataCard(
    name="reviewers",
    title="Gold standard of reviewer and paper matching",
    licence="none stated",
    source="github.com/niharshah/goldstandard-reviewer-paper-match",
    terms="research use; names and ids of the people were dropped, do not try to recover them",
    citation="Stelmakh, Wieting, Neubig, Shah: A gold standard dataset for the reviewer assignment problem, 2023",
    notes="Areas are known for 462 of the papers; 303 papers have no abstract.",
    share="research",
)


@dataclass(frozen=True)
class Paper:
    """A paper; ``abstract``, ``year`` None and ``areas`` empty where unknown."""

    id: str
    title: str
    abstract: str | None
    year: int | None
    areas: tuple[str, ...]


@dataclass(frozen=True)
class Reviewer:
    """A person: their own ``profile`` papers, the ``candidates`` they graded, their ``expertise`` (1 to 5) on each."""

    user: int
    profile: tuple[str, ...]
    candidates: tuple[str, ...]
    expertise: tuple[float, ...]


@dataclass(frozen=True)
class Reviewers:
    """People, and papers by id."""

    people: tuple[Reviewer, ...]
    papers: dict[str, Paper]
    card: DataCard


def reviewers(path: str | Path | None = None) -> Reviewers:
    """All people and papers; every id a person names is among the papers. ``path`` is the data folder (two files)."""
    papers = {
        row["id"]: Paper(row["id"], row["title"], row["abstract"], row["year"], tuple(row["areas"] or ()))
        for row in read_jsonl(packed(path, "reviewers", "rec/reviewer_papers.jsonl.gz", CARD.source), "reviewers")
    }
    people: list[Reviewer] = []
    for row in read_jsonl(packed(path, "reviewers", "rec/reviewer_users.jsonl.gz", CARD.source), "reviewers"):
        person = Reviewer(row["user"], *(tuple(row[key]) for key in ("profile_papers", "candidates", "expertise")))
        lacking = [paper for paper in (*person.profile, *person.candidates) if paper not in papers]
        if lacking or len(person.candidates) != len(person.expertise):
            raise DataError(f"reviewers: user {person.user}: expected known papers and one grade for each candidate")
        people.append(person)
    return Reviewers(tuple(people), papers, CARD)
