"""Which rows are asked: drawn by seed, whatever order the table is in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import isthmus as im
from isthmus.audit import Audit, audit
from isthmus.audit.subject import Subject
from isthmus.data.table import Splits, Table


def four(n: int = 2000) -> Splits:
    """Four classes, the last ones ever noisier, sorted by class as tables on disk often are."""
    draw, space, task = np.random.default_rng(0), im.ConceptSpace.binary(["a", "b", "c"]), im.Task.classes(tuple("wxyz"))
    parts: list[Table] = []
    for _ in range(3):
        y = np.sort(draw.integers(0, 4, n))
        c = np.c_[y % 2, y // 2, draw.integers(0, 2, n)].astype(np.float32)
        x = torch.from_numpy(c + (0.1 + 0.5 * y)[:, None] * draw.normal(size=c.shape)).float()
        parts.append(Table(x, c=torch.from_numpy(c), y=torch.from_numpy(y), space=space, task=task))
    return Splits(*parts, name="four")


def test_rows_are_drawn_from_every_class_in_proportion() -> None:
    data = four()
    subject = Subject(im.fit("cbm", data, epochs=1), data)
    y = subject.part("test").y
    for most in (7, 60, 200, 1999):
        rows = subject.some(most)
        assert len(set(rows.tolist())) == most and (np.diff(rows) > 0).all()
        assert np.abs(np.bincount(y[rows], minlength=4) - most * np.bincount(y) / len(y)).max() <= 1
    assert (subject.some(5000) == np.arange(2000)).all() and (subject.some(60) == subject.some(60)).all()
    among = np.flatnonzero(y == 3)
    assert set(y[subject.some(20, among=among)]) == {3} and len(subject.some(20, "train")) == 20
    assert (replace(subject, seed=1).some(60) != subject.some(60)).any()


def test_the_order_of_the_table_says_nothing() -> None:
    data = four()
    model = im.fit("cbm", data, mode="independent", epochs=30)
    sections = ["faithfulness", "alignment", "selective"]

    def made(test: Table) -> Audit:
        return audit(model, replace(data, test=test), sections=sections, target=0.8)

    def lines(told: Audit) -> dict[str, dict[str, Any]]:
        return {line["key"]: line for section in told.data["sections"] for line in section["lines"]}

    found = lines(made(data.test))
    other = lines(made(data.test.take(np.random.default_rng(3).permutation(len(data.test)))))
    assert found.keys() == other.keys() and {"automated", "deletion", "mig"} <= found.keys()
    for key, line in found.items():
        if line["low"] is not None and key != "cace_sign":
            half = max(line["high"] - line["low"], 0.02) / 2
            assert abs(line["value"] - other[key]["value"]) < 2 * half, key
