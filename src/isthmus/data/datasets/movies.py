"""MovieLens small with Wikipedia texts: film ratings for recommendation, and films with genres as concepts.

Harper and Konstan, ACM TiiS 2015 (ratings).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.data.datasets._files import Array, packed, read_jsonl, read_npz
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.rows import Texts
from isthmus.data.table import DataCard, Splits, Table
from isthmus.errors import DataError
from isthmus.space import ConceptSpace, Task

GENRES = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "IMAX", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
CARD = DataCard(
    name="movies",
    title="MovieLens latest small, with Wikipedia extracts",
    licence="ratings: GroupLens terms; texts: CC BY-SA",
    source="grouplens.org ml-latest-small; github.com/prust/wikipedia-movie-data",
    terms="research; ratings may be passed on under the same terms, no commercial use",
    citation="Harper, Konstan: The MovieLens datasets, ACM TiiS 5, 2015",
    notes="100,836 ratings of 9,742 films; 6,265 films have an extract. The table keeps films with an extract and "
    "enough ratings; its target, the mean rating, is ours. The ratings themselves are read by `ratings`.",
    share="research",
)


@dataclass(frozen=True)
class Ratings:
    """One row for each rating (n,): ``user``, ``film`` (ids), ``stars`` (0.5 to 5), ``time`` (seconds since 1970)."""

    user: Array
    film: Array
    stars: Array
    time: Array


def ratings(path: str | Path | None = None) -> Ratings:
    """The 100,836 ratings: pairs of a person and a film, which are not rows of a ``Table``."""
    place = packed(path, "movies", "rec/ratings_ml_small.npz", CARD.source)
    arrays = read_npz(place, "movies", ("userId", "movieId", "rating", "timestamp"))
    user, film, time = (arrays[key].astype(np.int64) for key in ("userId", "movieId", "timestamp"))
    return Ratings(user, film, arrays["rating"].astype(np.float32), time)


def films(path: str | Path | None = None) -> list[dict[str, Any]]:
    """The 9,742 films: movieId, title, genres, tags, wiki_title, wiki_genres, wiki_extract (None where unknown)."""
    return read_jsonl(packed(path, "movies", "rec/movies_ml_small_wiki.jsonl.gz", CARD.source), "movies")


@dataset("movies", summary="film texts, 19 genres as concepts, mean rating as a number (research)")
def movies(*, path: str | Path | None = None, least_ratings: int = 10, seed: int = 0) -> Splits:
    """Films with a Wikipedia extract (lazy ``Texts``) and at least ``least_ratings`` ratings; split by ``seed``.

    Concepts: 19 genres, binary (NaN for a film without any genre). Target: the mean rating, a value from 0.5 to 5
    stars. ``path`` is the data folder: two files are read.
    """
    given = ratings(path)
    ids, at = np.unique(given.film, return_inverse=True)
    count = np.bincount(at)
    mean = np.bincount(at, weights=given.stars) / count
    known = {int(film): float(m) for film, m, n in zip(ids, mean, count, strict=True) if n >= least_ratings}
    rows = [row for row in films(path) if row["wiki_extract"] and row["movieId"] in known]
    if len(rows) < 3:
        raise DataError(f"movies: expected films with at least {least_ratings} ratings, got {len(rows)}; lower least_ratings")
    blank = [float("nan")] * len(GENRES)
    c = torch.tensor([[float(g in row["genres"]) for g in GENRES] if row["genres"] else blank for row in rows])
    y, task = torch.tensor([known[row["movieId"]] for row in rows]), Task.value("mean rating", unit="stars")
    table = Table(
        Texts([row["wiki_extract"] for row in rows]),
        c=c,
        y=y,
        space=ConceptSpace.binary(GENRES),
        task=task,
        ids=[row["title"] for row in rows],
    )
    return official(table, draw(y, task, seed=seed), name="movies", card=CARD)
