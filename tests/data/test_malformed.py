"""Hundreds of malformed tables: each is taken with the right shapes, or refused by our error in one line.

Whatever is taken goes on through ``split``, a concept bottleneck and both losses, so that a wrong shape that slips in
cannot hide. No bare IndexError, TypeError or ValueError from below, and no silent broadcast.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import nan

import isthmus.methods  # noqa: F401  (registers the methods)
from isthmus import losses, registry
from isthmus.data import DataCard, Images, Splits, Table, Texts, from_arrays, split
from isthmus.data.check import LARGEST
from isthmus.errors import IsthmusError
from isthmus.features.tabular import identity
from isthmus.given import Given, reveal
from isthmus.model import ConceptModel
from isthmus.space import Concept, ConceptSpace, Task

pandas = pytest.importorskip("pandas")
many = settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

SPACES = (
    ConceptSpace(),
    ConceptSpace.binary(["a", "b"]),
    ConceptSpace.of(Concept("a"), Concept("s", "categorical", ("x", "y", "z")), Concept("n", "continuous")),
    ConceptSpace.of(Concept("s", "categorical", ("0", "1"))),
)
TASKS = (Task.classes(["u", "v"]), Task.classes(["0", "1", "2"]), Task.labels(["u", "v"]), Task.value("p"))
ODD = (None, nan, np.inf, -np.inf, 1e20, 1e300, 10**400, "", "a", "yes", True, np.float32(0.5), 1j, -1, 7, 0.5, b"x", [],
       {}, [1, 2], (1,), object(), np.zeros(2), np.array(3), torch.tensor(1.0), pandas.NA, pandas.NaT,
       np.datetime64("2020"))  # fmt: skip
JUNK = (None, 3, 2.5, "abc", b"abc", object(), {}, {1: 2}, [], (), iter([1, 2]), len, Table, np.float64(1), np.zeros(()),
        torch.tensor(2.0), [[]], [None], set("ab"), range(3), np.zeros(3, [("p", float)]), Texts, Images)  # fmt: skip
DTYPES = ("?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "g", "c16", "O", "U3", "S3", "M8[s]", ">f4")
TENSORS = (torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.complex64)


def cells(good: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[Any]]:
    """A column of n good cells with up to two odd ones."""

    def put(drawn: tuple[list[Any], list[tuple[int, Any]]]) -> list[Any]:
        column, odd = drawn
        for at, value in odd:
            if column:
                column[at % len(column)] = value
        return column

    odd = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(ODD)), max_size=2)
    return st.tuples(st.lists(good, min_size=n, max_size=n), odd).map(put)


GOOD = (
    st.sampled_from([0, 1]),
    st.sampled_from([0.0, 1.0, nan]),
    st.booleans(),
    st.sampled_from(["x", "y", "z"]),
    st.floats(-5, 5),
    st.integers(-3, 3),
    st.just(1),
    st.just(nan),
    st.sampled_from(["u", "v", None]),
)


def column(n: int) -> st.SearchStrategy[list[Any]]:
    return st.one_of([cells(good, n) for good in GOOD])


@st.composite
def shaped(draw: st.DrawFn, n: int) -> Any:
    """An array or tensor of any type and rank, now and then with a row more or less."""
    rows = draw(st.sampled_from([n, n, n, n + 1, max(n - 1, 0), 0]))
    shape = draw(st.sampled_from([(rows,), (rows, 1), (rows, 2), (rows, 5), (rows, 0), (rows, 2, 2), (2, rows), (), (1, 2)]))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, shape) * draw(st.sampled_from([1, 1, 3, -1, 0.5]))
    if draw(st.booleans()):
        tensor = torch.from_numpy(np.asarray(values)).to(draw(st.sampled_from(TENSORS)))
        return tensor.to_sparse() if tensor.ndim and draw(st.integers(0, 9)) == 0 else tensor
    dtype = draw(st.sampled_from(DTYPES))
    made = np.asarray(values).astype("i8").astype(dtype) if dtype == "M8[s]" else np.asarray(values).astype(dtype)
    if made.dtype.kind in "fO" and made.size and draw(st.booleans()):
        with np.errstate(over="ignore"):
            made.flat[draw(st.integers(0, made.size - 1))] = draw(st.sampled_from([nan, np.inf, 1e20, -1e38]))
    return np.ma.MaskedArray(made, made == made.flat[0]) if made.size and draw(st.integers(0, 9)) == 0 else made


@st.composite
def named(draw: st.DrawFn, n: int) -> Any:
    """Columns by name: a dict, a frame, or a list of rows."""
    names = draw(st.lists(st.sampled_from(["a", "b", "s", "n", "s=x", "", "a\nb", 7]), min_size=0, max_size=4))
    columns = [draw(column(n)) for _ in names]
    form = draw(st.sampled_from(["dict", "frame", "rows", "series", "category"]))
    if form == "dict":
        if columns and draw(st.integers(0, 5)) == 0:
            columns[0] = columns[0][:-1]
        return dict(zip(names, columns, strict=True))
    if form == "rows":
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[]] * n
    if form == "series":
        return pandas.Series(draw(column(n)), dtype=object, name=draw(st.sampled_from([None, "a", 3])))
    if form == "category":
        return pandas.DataFrame({"a": pandas.Categorical(draw(st.lists(st.sampled_from("xyz"), min_size=n, max_size=n)))})
    frame = pandas.DataFrame({i: pandas.Series(cells, dtype=object) for i, cells in enumerate(columns)}, index=range(n))
    frame.columns = names
    return frame.iloc[::-1] if draw(st.integers(0, 7)) == 0 else frame


def anything(n: int) -> st.SearchStrategy[Any]:
    return st.one_of(shaped(n), named(n), column(n), st.sampled_from(JUNK))


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """A call of ``from_arrays``: a sound one with one to three arguments made odd, so that each check is reached."""
    n = draw(st.sampled_from([*[24] * 12, 7, 2, 1, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    call: dict[str, Any] = {"x": rng.normal(size=(n, 3)), "y": rng.choice(["u", "v"], n).tolist() if n > 1 else ["u"] * n}
    if draw(st.integers(0, 3)):
        call["concepts"] = {"a": rng.integers(0, 2, n), "s": rng.choice(["x", "y", "z"], n), "n": rng.normal(size=n)}
    odd: dict[str, st.SearchStrategy[Any]] = {
        "x": st.one_of(anything(n), st.fixed_dictionaries({"p": anything(n), "q": anything(n)})),
        "y": anything(n),
        "concepts": anything(n),
        "space": st.sampled_from([*SPACES, None, "a"]),
        "task": st.sampled_from([*TASKS, None, "classes", "labels", "value", "clases", 3]),
        "concept_names": st.sampled_from([None, ["a"], ["a", "b"], ["a", "a"], "ab", ["a", None], []]),
        "class_names": st.sampled_from([None, ["u", "v"], ["0", "1"], ["u", "u"], "uv", ["u"], [0, 1], []]),
        "kinds": st.sampled_from([None, {"a": "binary"}, {"s": "continuous"}, {"q": "binary"}, {"n": "ordinal"}, {"n": 3},
                                  {"s": SPACES[2].concepts[1]}]),
        "groups": st.one_of(column(n), st.sampled_from([None, ["a", None], "abc", 3, np.zeros((n, 2)), np.arange(n) // 2])),
        "weight": st.one_of(
            cells(st.floats(0, 2), n), shaped(n), st.sampled_from([None, "a", [-1.0] * n, [0] * n, [1e20] * n])
        ),
        "askable": st.one_of(st.none(), shaped(n)),
        "where": st.one_of(st.none(), shaped(n)),
        "ids": st.one_of(st.none(), column(n)),
    }  # fmt: skip
    most = draw(st.sampled_from([1, 1, 2]))
    for name in draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=most, unique=True)):
        call[name] = draw(odd[name])
    return call


def attempt(act: Callable[[], Any]) -> Any:
    """What ``act`` gives, or None where our error refuses in one line; any other error or warning fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="concept .* (never varies in train|is unknown on every train row)")
        warnings.filterwarnings("ignore", message=".* makes it (categorical|continuous), ")
        try:
            return act()
        except IsthmusError as refused:
            error = refused
    assert "\n" not in str(error)
    assert 15 < len(str(error)) < 500
    assert type(error) is not IsthmusError
    return None


def sound(table: Table) -> None:
    """The shapes and ranges a table promises."""
    n, space, task = len(table), table.space, table.task
    assert n > 0
    assert isinstance(task, Task)
    if table.c is not None:
        assert table.c.shape == (n, len(space))
        assert table.c.dtype == torch.float32
        assert not table.c.isinf().any()
        for concept, part in zip(space.concepts, space.slices, strict=True):
            block = table.c[:, part]
            assert (block.isnan().any(1) == block.isnan().all(1)).all()
            if concept.kind != "continuous":
                assert ((block >= 0) & (block <= 1) | block.isnan()).all()
            if concept.kind == "categorical":
                assert torch.allclose(block[~block.isnan().any(1)].sum(1), torch.ones(()), atol=1e-3)
    if table.y is not None:
        assert table.y.shape == ((n, task.width) if task.kind == "labels" else (n,))
        assert table.y.dtype == (torch.int64 if task.kind == "classes" else torch.float32)
        if task.kind == "classes":
            assert table.y.min() >= 0
            assert table.y.max() < task.width
    assert table.weight is None or (table.weight.shape == (n,) and bool((table.weight >= 0).all()))
    assert table.group is None or (len(table.group) == n and all(type(g) is str for g in table.group))
    assert table.ids is None or len(table.ids) == n
    assert table.askable is None or table.askable.shape == (n, space.count)
    assert table.where is None or table.where.shape == (n, len(space), 4)
    for part in table.x.values() if isinstance(table.x, dict) else [table.x]:
        assert len(part) == n
        assert not isinstance(part, torch.Tensor) or not part.is_floating_point() or bool((part.abs() <= LARGEST).all())


def runs(table: Table) -> None:
    """A bottleneck on the table: right shapes, finite losses, corrections held, another number of columns refused."""
    assert table.task is not None
    x, space, n = table.x, table.space, len(table)
    if not isinstance(x, torch.Tensor) or x.ndim != 2 or table.y is None:
        return
    name = "linear_probe" if registry.get("cbm").unmet(space if table.c is not None else None, table.task) else "cbm"
    model: ConceptModel = registry.get(name).make(identity(x.shape[1]), space, table.task).model.eval()
    out = model(x)
    assert out.logits.shape == (n, table.task.width)
    assert out.logits.isfinite().all()
    assert out.concepts.values.shape == (n, len(space) if name == "cbm" else 0)
    batch = table.batch(x)
    assert losses.task(out, batch, table.task)["task"].isfinite()
    if name != "cbm" or table.c is None or table.c.isnan().all():
        return
    assert out.concepts.values.isfinite().all()
    for labels, known in ((table.c, None), (batch.labels(), batch.known)):
        nll = out.concepts.nll(labels, space, known=known, rows=batch.weight)
        assert nll.shape == ()
        assert nll.isfinite()
    told = reveal(table.c, torch.ones(1, space.count, dtype=torch.bool), space)
    held = model(x, told)
    assert torch.equal(held.concepts.values[told.mask], told.values[told.mask])
    assert held.logits.isfinite().all()
    for wrong in (torch.zeros(n, len(space) + 1), torch.zeros(n + 2, len(space)), torch.zeros(len(space))):
        assert attempt(lambda wrong=wrong: model(x, Given(wrong, torch.zeros_like(wrong, dtype=torch.bool)))) is None


def test_malformed_arrays_are_taken_rightly_or_refused() -> None:
    seen: Counter[str] = Counter()

    @many
    @given(arguments())
    def throw(call: dict[str, Any]) -> None:
        seen["thrown"] += 1
        table = attempt(lambda: from_arrays(**call))
        event("taken" if table is not None else "refused")
        if table is None:
            seen["refused"] += 1
            return
        seen["taken"] += 1
        sound(table)
        runs(table)
        if table.y is None:
            return
        cut: Splits | None = attempt(lambda: split(table, card=DataCard("n", "t", "l", "s", "t")))
        if cut is None:
            return
        seen["cut"] += 1
        assert len(cut.train) + len(cut.validation) + len(cut.test) == len(table)
        for part in (cut.train, cut.validation, cut.test):
            sound(part)
            runs(part)

    throw()
    assert seen["thrown"] >= 500
    assert seen["refused"] >= 150
    assert seen["cut"] >= 100, seen


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """A call of ``Table`` itself: tensors of any type, rank and length."""
    n = draw(st.sampled_from([8, 8, 8, 1, 0]))
    space, task = draw(st.sampled_from(SPACES)), draw(st.sampled_from(TASKS))
    y = {"classes": torch.arange(n) % 2, "labels": torch.ones(n, 2), "value": torch.arange(n) / 3}[task.kind]
    c = space.encode(torch.arange(n * space.count).view(n, space.count) % 2 * 1.0)
    call: dict[str, Any] = {"x": torch.randn(n, 3), "c": c, "y": y, "space": space, "task": task}

    def holed(tensor: torch.Tensor) -> torch.Tensor:
        made = tensor.double().clone()
        for value in draw(st.lists(st.sampled_from([nan, np.inf, -1.0, 2.0, 0.5, 1e20, 1e300, 3e38]), max_size=3)):
            if made.numel():
                made.view(-1)[draw(st.integers(0, made.numel() - 1))] = value
        return made

    odd: dict[str, Callable[[], Any]] = {
        "x": lambda: draw(st.one_of(shaped(n), st.sampled_from(JUNK), st.just(Texts(["t"] * n)))),
        "c": lambda: draw(st.one_of(st.none(), shaped(n), st.just(holed(c)), st.sampled_from(JUNK))),
        "y": lambda: draw(st.one_of(st.none(), shaped(n), st.just(holed(y)), st.sampled_from(JUNK))),
        "space": lambda: draw(st.sampled_from([*SPACES, None, "a", ["a"]])),
        "task": lambda: draw(st.sampled_from([*TASKS, None, "classes"])),
        "where": lambda: draw(st.one_of(shaped(n), st.just(holed(torch.zeros(n, len(space), 4))), st.sampled_from(JUNK))),
        "askable": lambda: draw(st.one_of(shaped(n), st.just(holed(torch.ones(n, space.count))), st.sampled_from(JUNK))),
        "weight": lambda: draw(st.one_of(shaped(n), st.just(holed(torch.ones(n))), st.sampled_from(JUNK))),
        "group": lambda: draw(st.one_of(column(n), shaped(n), st.sampled_from(JUNK))),
        "ids": lambda: draw(st.one_of(column(n), shaped(n), st.sampled_from(JUNK))),
        "x, holed": lambda: holed(call["x"]) if isinstance(call["x"], torch.Tensor) else call["x"],
    }
    for name in draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=2, unique=True)):
        call[name.split(",")[0]] = odd[name]()
    return call


def test_malformed_tables_are_taken_rightly_or_refused() -> None:
    seen: Counter[str] = Counter()

    @many
    @given(fields())
    def throw(call: dict[str, Any]) -> None:
        table = attempt(lambda: Table(**call))
        seen["refused" if table is None else "taken"] += 1
        if table is not None:
            sound(table)
            runs(table)

    throw()
    assert seen["refused"] >= 150
    assert seen["taken"] >= 60, seen


@many
@given(
    st.sampled_from(SPACES[1:]),
    st.sampled_from([(1, 0), (4, 0), (3, 0), (4, 1), (4, -1), (0, 0)]),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.float16, torch.complex64]),
    st.sampled_from([torch.bool, torch.float32, torch.int64]),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([nan, np.inf, 2.0, -1.0, 0.5, 1e30])), max_size=3),
    st.integers(0, 99),
)
def test_malformed_corrections_are_held_or_refused(
    space: ConceptSpace,
    extra: tuple[int, int],
    dtype: torch.dtype,
    mask_dtype: torch.dtype,
    odd: list[tuple[int, float]],
    seed: int,
) -> None:
    rows, wider = extra
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2, (rows, len(space) + wider), generator=generator).to(dtype)
    for at, value in odd:
        if values.numel() and (dtype.is_floating_point or value == 2.0):
            values.view(-1)[at % values.numel()] = value
    mask = (torch.rand(values.shape, generator=generator) > 0.5).to(mask_dtype)
    model = registry.get("cbm").make(identity(2), space, TASKS[0]).model.eval()
    out = attempt(lambda: model(torch.randn(4, 2), Given(values, mask)))
    if out is not None:
        assert (rows in (1, 4), wider, mask_dtype) == (True, 0, torch.bool)
        assert out.concepts.values.shape == (4, len(space))
        assert torch.equal(out.concepts.values[mask.expand(4, -1)], values.float().expand(4, -1)[mask.expand(4, -1)])
        assert out.logits.isfinite().all()
