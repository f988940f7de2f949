"""Where concepts look: equals and the concepts of a crowded row are drawn, and n counts the rows that count."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import isthmus as im
from isthmus.audit import truth
from isthmus.audit.section import Measure
from isthmus.audit.subject import Subject
from isthmus.metrics.core import Array


def test_a_row_of_many_concepts_is_looked_at_here_and_there() -> None:
    present = np.ones((2000, 12), dtype=bool)
    found = truth._few(present, 0)
    assert found.shape == (2000, truth.LOOKED) and (np.diff(found, axis=1) > 0).all()
    assert np.abs(np.bincount(found.ravel(), minlength=12) / 2000 - 0.5).max() < 0.05
    few = np.zeros((2, 12), dtype=bool)
    few[0, [3, 7, 9]], few[1, 4] = True, True
    assert truth._few(few, 0).tolist() == [[3, 7, 9], [4, 0, 1]]


def test_weights_of_0_leave_the_places_to_chance_and_n_counts_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows some cards never lie
        data = im.data.load("poker", train=60, validation=20, test=14)
    subject = Subject(im.fit("cbm", data, epochs=1), data)
    with torch.no_grad():
        subject.model.head.weights.mul_(0)  # type: ignore[operator]
    looked: list[Array] = []
    shown, made = truth._shown, Measure.line
    monkeypatch.setattr(truth, "_shown", lambda *given: looked.append(given[2]) or shown(*given))
    counts: dict[str, int] = {}

    def line(self: Measure, key, metric, form, **more):  # type: ignore[no-untyped-def]
        counts[key] = int((form.rows[:, 1] > 0).sum())
        return made(self, key, metric, form, **more)

    monkeypatch.setattr(Measure, "line", line)
    section = truth.location(subject)
    assert len(np.unique(looked[1][:, 0])) > 6  # not the first column of every row
    lines = {each.key: each for each in section.lines}
    assert 0 < counts["location@1_a1"] < counts["location@5_a1"] <= 14
    for key in ("location@1_a1", "location@5_a1", "pointing"):
        assert lines[key].n == counts[key], key
    assert "at most 6 of a row, drawn" in section.definition
