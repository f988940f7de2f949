"""from_arrays: what columns of numpy, torch, pandas and lists become, and what is refused by name and row."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nan

from isthmus.data import Images, Texts, from_arrays, split
from isthmus.errors import DataError, IsthmusError, UnknownName
from isthmus.space import Concept, ConceptSpace, Task

pandas = pytest.importorskip("pandas")

X = np.arange(8.0).reshape(4, 2)
Y = ["cat", "dog", "cat", "eel"]


def frame(**columns: Any) -> Any:
    return pandas.DataFrame(columns)


def concept(values: Any, **options: Any) -> tuple[Concept, list[Any]]:
    """The one concept a column becomes, and its labels with None for unknown."""
    made = from_arrays(X, Y, {"it": values}, **options)
    assert made.c is not None
    labels = made.c.squeeze(1).tolist() if made.c.shape[1] == 1 else made.c.tolist()
    return made.space.concepts[0], [None if v != v else v for v in labels] if made.c.shape[1] == 1 else labels


def test_captions_follow_the_rows() -> None:
    made = from_arrays(X, Y, captions=np.array(["a", "b", "c", "d"]))
    assert made.take([2, 0]).caption == ["c", "a"]
    for captions, said in (
        (["a", "b"], "caption: expected 4 rows"),
        (["a", " ", "c", "d"], "caption, row 1: expected a text, got ' '; write one or drop the row"),
        (pandas.Series(["a"] * 4, index=[3, 2, 1, 0]), "captions: expected the index of x"),
    ):
        with pytest.raises(DataError, match=said):
            from_arrays(pandas.DataFrame(X), Y, captions=captions)


# ---- x


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.astype(np.float32),
        X.astype(np.int64),
        X.astype(">f8"),
        X.astype(np.longdouble),
        X[::-1][::-1],
        torch.from_numpy(X),
        torch.from_numpy(X).half(),
        torch.from_numpy(X).bfloat16().requires_grad_(),
        X.tolist(),
        [tuple(row) for row in X.tolist()],
        list(X),
        list(torch.from_numpy(X)),
        pandas.DataFrame(X),
        pandas.DataFrame(X).astype("Int64"),
        pandas.DataFrame(X).astype(object),
        X.astype(object),
        np.ma.MaskedArray(X),
    ],
)
def test_numbers_of_any_make_become_float32(x: Any) -> None:
    made = from_arrays(x, Y)
    assert made.x.dtype == torch.float32
    assert made.x.tolist() == X.tolist()
    assert not made.x.requires_grad


def test_the_table_has_a_copy() -> None:
    x = X.astype(np.float32)
    made = from_arrays(x, Y)
    x[:] = 9
    assert made.x[0, 0] == 0


def test_uint8_pictures_keep_their_type_and_put_channels_first() -> None:
    behind = np.random.default_rng(0).integers(0, 255, (4, 6, 5, 3), np.uint8)
    want = torch.from_numpy(behind).permute(0, 3, 1, 2)
    for x in (behind, behind.transpose(0, 3, 1, 2), torch.from_numpy(behind), [Image.fromarray(p) for p in behind]):
        made = from_arrays(x, Y)
        assert made.x.dtype == torch.uint8
        assert torch.equal(made.x, want)
    grey = from_arrays(behind[..., 0], Y)
    assert torch.equal(grey.x, want[:, :1].expand(4, 3, 6, 5))
    with pytest.raises(DataError, match=r"channels"):
        from_arrays(np.zeros((4, 6, 5, 4), np.uint8), Y)


def test_texts_and_image_files() -> None:
    assert from_arrays(list("abcd"), Y).read() == list("abcd")
    assert isinstance(from_arrays(np.array(list("abcd")), Y).x, Texts)
    assert isinstance(from_arrays(pandas.Series(list("abcd")), Y).x, Texts)
    assert isinstance(from_arrays(Texts(list("abcd")), Y).x, Texts)
    for files in (["a.png", "b.JPG", "c.jpeg", "d.webp"], [Path("a"), Path("b"), Path("c"), Path("d")], [b"1"] * 4):
        assert isinstance(from_arrays(files, Y).x, Images)
    assert isinstance(from_arrays(["a.png", "not an image", "c.png", "d.png"], Y).x, Texts)


def test_a_dict_is_several_inputs() -> None:
    made = from_arrays({"scan": Images([b"1"] * 4), "note": list("abcd"), "age": X}, Y)
    assert [type(made.x[name]).__name__ for name in ("scan", "note", "age")] == ["Images", "Texts", "Tensor"]


def test_images_from_bytes_are_read() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(buffer, "PNG")
    made = from_arrays([buffer.getvalue()] * 4, Y)
    assert made.read()[3, :, 0, 0].tolist() == [9, 8, 7]


def holed(value: float) -> Any:
    x = X.copy()
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (holed(nan), ("x, column '1', row 2", "nan")),
        (holed(-np.inf), ("x, column '1', row 2", "-inf")),
        (holed(1e300), ("x, column '1', row 2", "1e+300", "rescale")),
        (frame(a=X[:, 0], age=holed(nan)[:, 1]), ("x, column 'age', row 2", "nothing", "fill")),
        (frame(a=X[:, 0], age=holed(np.inf)[:, 1]), ("x, column 'age', row 2", "inf")),
        (frame(a=X[:, 0], city=["Ulm", "Bonn", "Rom", "Ulm"]), ("x, column 'city', row 0", "'Ulm'", "encode")),
        (frame(a=[1, 2, "x", 4]), ("x, column 'a', row 2", "'x'", "one type")),
        (frame(a=[1, 2, None, 4]), ("x, column 'a', row 2", "nothing")),
        (frame(a=pandas.array([1, 2, None, 4], "Int64")), ("x, column 'a', row 2", "nothing")),
        (frame(a=pandas.Categorical([1, 2, 3, 1])), ("x, column 'a', row 0", "encode")),
        (frame(a=pandas.to_datetime(["2020-01-01"] * 4)), ("x, column 'a'", "datetime64")),
        (frame(a=[[1], [2], [3], [4]]), ("x, column 'a', row 0", "list")),
        (frame(a=[1, 2, 10**400, 4]), ("x, column 'a', row 2", "inf")),
        (np.array([[1, "a"], [2, "b"]] * 2, dtype=object), ("x, column '1', row 0", "'a'")),
        (X.astype(complex), ("x", "complex128")),
        (X.astype("datetime64[s]"), ("x", "datetime64")),
        (X[:, 0], ("x", "(4,)", "x[:, None]")),
        (np.float64(3), ("x", "float64")),
        (X[:, :0], ("x", "at least one column")),
        (pandas.DataFrame(index=range(4)), ("x", "at least one column")),
        ([[1, 2], [3], [4, 5], [6, 7]], ("x, row 1", "same columns")),
        ([np.zeros(2), np.zeros(3)] * 2, ("x, row 1", "(2,)", "(3,)")),
        (["a", None, "c", "d"], ("x, row 1", "text", "NoneType")),
        ([Path("a"), "b", 3, "d"], ("x, row 2", "path or bytes", "int")),
        ("abcd", ("x", "str")),
        (None, ("x", "NoneType")),
        (iter([1, 2]), ("x", "iterator")),
        (torch.from_numpy(X).to_sparse(), ("x", "to_dense")),
        (np.ma.MaskedArray(X, X == 3), ("x, column '1', row 1", "nothing")),
        ({}, ("x", "at least one", "input")),
        ({"a": X, "b": X[:3]}, ("b", "4 rows", "got 3")),
        ({"a": X, "b": {"c": X}}, ("b", "dict")),
    ],
)  # fmt: skip
def test_what_x_may_not_be(x: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        from_arrays(x, Y)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_sparse_matrices_are_refused_with_the_way_out() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match="toarray"):
        from_arrays(sparse.csr_matrix(X), Y)


# ---- y


@pytest.mark.parametrize(
    ("y", "names", "index"),
    [
        (Y, ("cat", "dog", "eel"), [0, 1, 0, 2]),
        (np.array(Y), ("cat", "dog", "eel"), [0, 1, 0, 2]),
        (pandas.Series(Y), ("cat", "dog", "eel"), [0, 1, 0, 2]),
        (pandas.Series(Y).astype("category"), ("cat", "dog", "eel"), [0, 1, 0, 2]),
        (pandas.Categorical(Y, categories=["eel", "dog", "cat", "ant"]), ("ant", "cat", "dog", "eel"), [1, 2, 1, 3]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        (pandas.array([True, False, True, True], "boolean"), ("False", "True"), [1, 0, 1, 1]),
        ([0, 1, 2, 1], ("0", "1", "2"), [0, 1, 2, 1]),
        (np.array([[3], [10], [7], [3]], np.int8), ("3", "7", "10"), [0, 2, 1, 0]),
        (torch.tensor([0, 1, 1, 0]), ("0", "1"), [0, 1, 1, 0]),
        (frame(kind=Y), ("cat", "dog", "eel"), [0, 1, 0, 2]),
        ([-1, 1, 1, -1], ("-1", "1"), [0, 1, 1, 0]),
    ],
)
def test_texts_booleans_and_few_whole_numbers_are_classes(y: Any, names: tuple[str, ...], index: list[int]) -> None:
    made = from_arrays(X, y)
    assert made.task == Task.classes(names)
    assert made.y is not None
    assert (made.y.dtype, made.y.tolist()) == (torch.int64, index)


def test_class_names_give_the_order_and_the_meaning_of_whole_numbers() -> None:
    assert from_arrays(X, Y, class_names=["eel", "dog", "cat"]).y.tolist() == [2, 1, 2, 0]  # pyright: ignore
    assert from_arrays(X, [0, 1, 2, 0], class_names=["a", "b", "c"]).y.tolist() == [0, 1, 2, 0]  # pyright: ignore
    assert from_arrays(X, [1, 2, 3, 1], class_names=["1", "2", "3"]).y.tolist() == [0, 1, 2, 0]  # pyright: ignore
    assert from_arrays(X, [1.0, 0.0, 1.0, 0.0], task=Task.classes("ab")).y.tolist() == [1, 0, 1, 0]  # pyright: ignore


def test_floats_are_a_value_and_may_be_unknown() -> None:
    made = from_arrays(X, pandas.Series([1.5, nan, 3.0, 4.0], name="price"))
    assert made.task == Task.value("price")
    assert made.y is not None
    assert made.y.dtype == torch.float32
    assert made.y.isnan().tolist() == [False, True, False, False]
    assert from_arrays(X, range(4), task="value").y.tolist() == [0, 1, 2, 3]  # pyright: ignore
    assert from_arrays(X, [1, 2, 3, 4], task=Task.value("age", "years")).task.unit == "years"  # pyright: ignore


def test_columns_of_zeros_and_ones_are_labels() -> None:
    y = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    made = from_arrays(X, y, class_names=["wet", "cold"])
    assert made.task == Task.labels(["wet", "cold"])
    assert made.y is not None
    assert made.y.dtype == torch.float32
    assert from_arrays(X, y).task == Task.labels(["label 0", "label 1"])
    named = from_arrays(X, frame(wet=[True, None, False, True], cold=[0, 1, nan, 1]))
    assert named.task == Task.labels(["wet", "cold"])
    assert torch.isnan(named.y).nonzero().tolist() == [[1, 0], [2, 1]]  # pyright: ignore
    one = from_arrays(X, y[:, :1], task="labels", class_names=["wet"])
    assert one.y.shape == (4, 1)  # pyright: ignore
    swapped = from_arrays(X, frame(cold=[0, 0, 0, 1], wet=[1, 1, 1, 1]), task=Task.labels(["wet", "cold"]))
    assert swapped.y.tolist() == [[1, 0], [1, 0], [1, 0], [1, 1]]  # pyright: ignore


def test_rows_without_labels_need_a_task() -> None:
    assert from_arrays(X, None, task=Task.classes("ab")).y is None
    with pytest.raises(DataError, match="task="):
        from_arrays(X, None)


@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        (["a", None, "b", "a"], {}, ("y, row 1", "drop the row")),
        (["a", "", "b", "a"], {}, ("y, row 1",)),
        (pandas.Series(["a", nan, "b", "a"], name="kind"), {}, ("y 'kind', row 1", "drop the row")),
        (["a", "b", 3, "a"], {}, ("y, row 2", "one type")),
        (["a", "b", "x", "a"], {"class_names": ["a", "b"]}, ("y, row 2", "'x'")),
        (Y, {"task": Task.classes(["cat", "dgo", "eel"])}, ("y, row 1", "did you mean 'dgo'")),
        ([0, 1, 5, 0], {"class_names": ["a", "b"]}, ("y, row 2", "'5'", "index from 0 to 1")),
        ([0, 1, -1, 0], {"class_names": ["a", "b"]}, ("y, row 2", "'-1'")),
        ([1, 2, 0, 1], {"class_names": ["1", "2"]}, ("y, row 2", "'0'")),
        (["a"] * 4, {}, ("y", "two or more classes", "'a'")),
        ([1.0, 2.0, 1.0, 2.0], {}, ("y", "task='classes'")),
        ([0.0, 1.0, nan, 1.0], {}, ("y", "task='classes'")),
        ([0.5, 1.0, 2.0, 1.0], {"task": "classes"}, ("y, row 0", "0.5", "task='value'")),
        ([0.5, np.inf, 2.0, 1.0], {}, ("y, row 1", "inf")),
        ([nan] * 4, {}, ("y", "unknown")),
        ([None] * 4, {"task": "value"}, ("y", "unknown")),
        (Y, {"task": "value"}, ("y, row 0", "number")),
        ([1j, 2, 3, 4], {}, ("y", "complex")),
        (["2020", "2021"], {}, ("y", "4 rows", "got 2")),
        (np.eye(4)[:, :3] * 2, {}, ("y 'label 0', row 0", "2.0")),
        (np.eye(4)[:, :3], {"task": "classes"}, ("argmax",)),
        (np.eye(4)[:, :3], {"class_names": ["a"]}, ("3 names", "got 1")),
        (np.eye(4)[:, :0], {}, ("y", "at least one column")),
        (np.zeros((4, 2, 2)), {}, ("y", "(4, 2, 2)")),
        (frame(a=[0, 1, 0, 1], b=Y), {}, ("y 'b', row 0", "'cat'")),
        (frame(a=[0, 1, 0, 1]), {"task": Task.labels(["b"])}, ("'b'", "known: a")),
        (np.int64(3), {}, ("y",)),
        (Y, {"task": "clases"}, ("task", "'clases'")),
        (Y, {"class_names": "abc"}, ("class_names", "list")),
        (Y, {"class_names": ["a", "b"], "task": Task.classes("ab")}, ("class_names",)),
        (Y, {"class_names": ["cat", "dog", "eel", "eel"]}, ("different names",)),
    ],
)
def test_what_y_may_not_be(y: Any, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(IsthmusError) as error:
        from_arrays(X, y, **options)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_many_whole_numbers_are_not_guessed() -> None:
    x, y = np.zeros((60, 1)), np.arange(60)
    with pytest.raises(DataError, match="60 different whole numbers; say task='classes' or task='value'"):
        from_arrays(x, y)
    assert from_arrays(x, y, task="classes").task.width == 60  # pyright: ignore
    assert from_arrays(x, y, task="value").task.kind == "value"  # pyright: ignore


# ---- concepts


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ([True, False, True, True], "binary", [1, 0, 1, 1]),
        ([True, None, False, nan], "binary", [1, None, 0, None]),
        ([0, 1, 1, 0], "binary", [0, 1, 1, 0]),
        (np.array([0.0, 1.0, nan, 0.0]), "binary", [0, 1, None, 0]),
        (torch.tensor([1.0, nan, 0.0, 1.0]), "binary", [1, None, 0, 1]),
        (pandas.array([True, None, False, True], "boolean"), "binary", [1, None, 0, 1]),
        (pandas.array([1, None, 0, 1], "Int64"), "binary", [1, None, 0, 1]),
        ([1, 2, 3, None], "continuous", [1, 2, 3, None]),
        ([0.25, 0.5, nan, 1.0], "continuous", [0.25, 0.5, None, 1]),
        ([Decimal("1.5"), None, 2, 3.0], "continuous", [1.5, None, 2, 3]),
        ([1, 2, "", None], None, "one type"),
    ],
)
def test_numbers_become_binary_or_continuous(values: Any, kind: str | None, labels: Any) -> None:
    if kind is None:
        made, _ = concept([1, 2, "", None])  # a blank cell in a column of numbers is unknown, not a text
        assert made.kind == "continuous"
        return
    made, got = concept(values)
    assert (made.name, made.kind, got) == ("it", kind, labels)


@pytest.mark.parametrize(
    ("values", "states"),
    [
        (["red", "blue", None, "red"], ("blue", "red")),
        (np.array(["red", "blue", "", "red"]), ("blue", "red")),
        (pandas.Series(["red", "blue", None, "red"], dtype="string"), ("blue", "red")),
        (pandas.Series(["red", "blue", nan, "red"]), ("blue", "red")),
        (pandas.Categorical(["red", "blue", None, "red"], categories=["red", "green", "blue"]), ("blue", "green", "red")),
        (pandas.Categorical([10, 9, None, 10]), ("9", "10")),
    ],
)  # fmt: skip
def test_texts_and_categories_become_a_block_of_sorted_states(values: Any, states: tuple[str, ...]) -> None:
    made, labels = concept(values)
    assert (made.kind, made.states) == ("categorical", states)
    hot = [float(state == states[-1]) for state in states]
    cold = [float(state == states[0]) for state in states]
    assert labels[0] == labels[3] == (hot if "red" in states else [0.0, 1.0])
    assert labels[1] == cold
    assert all(v != v for v in labels[2])


def test_kinds_override_what_would_be_guessed() -> None:
    assert concept([0.25, 0.5, None, 1.0], kinds={"it": "binary"})[1] == [0.25, 0.5, None, 1.0]
    assert concept(["yes", "No", None, "TRUE"], kinds={"it": "binary"})[1] == [1, 0, None, 1]
    assert concept([3, 10, 3, None], kinds={"it": "categorical"})[0].states == ("3", "10")
    assert concept([0, 1, 1, 0], kinds={"it": "continuous"})[0].kind == "continuous"
    assert concept([None] * 4, kinds={"it": "binary"})[1] == [None] * 4
    full = Concept("colour", "categorical", ("red", "green", "blue"), group="look")
    made, labels = concept(["blue", None, "red", "red"], kinds={"it": full})
    assert made == full
    assert labels[0] == [0, 0, 1]


def test_names_come_from_the_frame_the_dict_or_concept_names() -> None:
    c = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    assert from_arrays(X, Y, c).space.names == ("concept 0", "concept 1")
    assert from_arrays(X, Y, c, concept_names=["a", "b"]).space.names == ("a", "b")
    assert from_arrays(X, Y, torch.from_numpy(c), concept_names=("a", "b")).space.names == ("a", "b")
    assert from_arrays(X, Y, c.tolist()).space.names == ("concept 0", "concept 1")
    assert from_arrays(X, Y, pandas.DataFrame(c, columns=["a", 7])).space.names == ("a", "7")
    assert from_arrays(X, Y, pandas.Series([0, 1, 1, 0], name="a")).space.names == ("a",)


SPACE = ConceptSpace.of(Concept("face"), Concept("rank", "categorical", ("ace", "two", "three")), Concept("age", "continuous"))


def test_a_space_says_what_columns_mean() -> None:
    want = [[1, 0, 1, 0, 3.5], [0, 1, 0, 0, 4.5], [1, 0, 0, 1, 5.5], [0, 1, 0, 0, 6.5]]
    codes = [[1, 1, 3.5], [0, 0, 4.5], [1, 2, 5.5], [0, 0, 6.5]]
    named = frame(age=[3.5, 4.5, 5.5, 6.5], rank=["two", "ace", "three", "ace"], face=[True, False, True, False])
    wide = pandas.DataFrame(want, columns=SPACE.columns)
    for concepts in (want, codes, np.array(codes), torch.tensor(want), named, wide, wide[list(SPACE.columns[::-1])]):
        made = from_arrays(X, Y, concepts, space=SPACE)
        assert made.space is SPACE
        assert made.c is not None
        assert made.c.tolist() == want


def test_numeric_states_are_names_and_words_are_counted() -> None:
    rank = ConceptSpace.of(Concept("rank", "categorical", ("1", "2", "3")))
    assert from_arrays(X, Y, {"rank": [1, 2, 3, 1]}, space=rank).c.argmax(1).tolist() == [0, 1, 2, 0]  # pyright: ignore
    with pytest.raises(DataError, match="'rank', row 0"):
        from_arrays(X, Y, {"rank": [0, 1, 2, 1]}, space=rank)


@pytest.mark.parametrize(
    ("concepts", "options", "words"),
    [
        ({"a": [1, "x", 0, 1]}, {}, ("concept 'a', row 1", "one type")),
        ({"a": [nan] * 4}, {}, ("concept 'a'", "unknown", "drop the column")),
        ({"a": [0, 1, np.inf, 0]}, {}, ("concept 'a', row 2", "inf")),
        ({"a": [0, 1, 1e18, 0]}, {}, ("concept 'a', row 2", "1e+18")),
        ({"a": ["x"] * 4}, {}, ("concept 'a'", "two or more states", "'x'")),
        ({"a": [0, 1, 0]}, {}, ("concepts 'a'", "4 rows", "got 3")),
        ({"a": 3}, {}, ("concepts 'a'", "4 rows")),
        ({"a": [[0, 1]] * 4}, {}, ("concept 'a'", "(4, 2)")),
        ({"a": [{}, {}, {}, {}]}, {}, ("concept 'a', row 0", "dict")),
        ({"a": pandas.to_datetime(["2020-01-01"] * 4)}, {}, ("concept 'a'",)),
        ({"a": np.array([1j] * 4)}, {}, ("concept 'a'", "complex")),
        ({"a\nb": [0, 1, 0, 1]}, {}, ("'a\\nb'", "printable")),
        ({"": [0, 1, 0, 1]}, {}, ("printable",)),
        ({}, {}, ("concepts", "at least one column")),
        (np.zeros((4, 0)), {}, ("concepts", "at least one column")),
        (np.zeros(4), {}, ("concepts", "(4,)", "c[:, None]")),
        (np.zeros((4, 2, 2)), {}, ("concepts", "(4, 2, 2)")),
        (np.zeros((3, 2)), {}, ("concepts", "4 rows", "got 3")),
        (np.zeros((4, 2)), {"concept_names": ["a"]}, ("2 names", "got 1")),
        (np.zeros((4, 2)), {"concept_names": ["a", "a"]}, ("'a'", "2 times")),
        (np.zeros((4, 2)), {"concept_names": "ab"}, ("concepts", "list")),
        (frame(a=[0, 1, 0, 1]), {"concept_names": ["b"]}, ("names of its own",)),
        (pandas.DataFrame(np.zeros((4, 2)), columns=["a", "a"]), {}, ("'a'", "2 times")),
        ({"a": [0, 1, 0, 1]}, {"kinds": {"b": "binary"}}, ("'b'", "known: a")),
        ({"a": [0, 1, 0, 1]}, {"kinds": {"a": "ordinal"}}, ("'a'", "ordinal")),
        ({"a": [0, 2, 0, 1]}, {"kinds": {"a": "binary"}}, ("'a', row 1", "0 to 1", "got 2")),
        ({"a": ["no", "maybe", "no", "no"]}, {"kinds": {"a": "binary"}}, ("'a', row 1", "yes/no", "'maybe'")),
        ({"a": ["x", "y", "x", "x"]}, {"kinds": {"a": "continuous"}}, ("'a', row 0", "'x'", "categorical")),
        ({"face": [0] * 4, "rnak": [0] * 4, "age": [0] * 4}, {"space": SPACE}, ("'rank'", "did you mean 'rnak'")),
        ({"face": [0] * 4, "rank": [0, 1, 3, 0], "age": [0] * 4}, {"space": SPACE}, ("'rank', row 2", "'3'", "0 to 2")),
        ({"face": [0] * 4, "rank": ["ace", "towo", None, None], "age": [0] * 4}, {"space": SPACE},
         ("'rank', row 1", "did you mean 'two'")),
        ({"face": [0] * 4, "rank": [0] * 4, "age": [0] * 4, "more": [0] * 4}, {"space": SPACE}, ("'more'",)),
        (np.zeros((4, 4)), {"space": SPACE}, ("(4, 5) or (4, 3)", "(4, 4)")),
        (np.zeros((4, 5)), {"space": SPACE}, ("'rank', row 0", "sum to 1")),
        (np.zeros((4, 3)), {"space": SPACE, "concept_names": list("abc")}, ("space", "both")),
        ("abcd", {}, ("concepts", "str")),
    ],
)  # fmt: skip
def test_what_concepts_may_not_be(concepts: Any, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(IsthmusError) as error:
        from_arrays(X, Y, concepts, **options)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_concept_column_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        from_arrays(X, Y, {"fcae": [0] * 4, "rank": [0] * 4, "age": [0] * 4}, space=SPACE)


# ---- rows


def test_groups_weights_ids_and_places() -> None:
    made = from_arrays(
        X, Y, np.eye(4)[:, :2], groups=pandas.Series([1, 1, 2, 2]), weight=[1, 2, 0, 1],
        askable=np.ones((4, 2), bool), where=np.zeros((4, 2, 4)), ids=["a", "b", "c", "d"],
    )  # fmt: skip
    assert (made.group, made.ids) == (["1", "1", "2", "2"], ["a", "b", "c", "d"])
    assert isinstance(made.weight, Tensor)
    assert made.weight.tolist() == [1, 2, 0, 1]
    assert made.askable is not None
    assert made.askable.all()
    assert made.where is not None


def test_the_index_of_a_frame_names_its_rows() -> None:
    named = pandas.DataFrame(X, index=["p", "q", "r", "s"])
    assert from_arrays(named, Y).ids == ["p", "q", "r", "s"]
    assert from_arrays(pandas.DataFrame(X), Y).ids is None


def test_frames_of_another_order_are_not_joined_by_position() -> None:
    x, concepts = pandas.DataFrame(X), frame(a=[0, 1, 0, 1])
    assert from_arrays(x, pandas.Series(Y), concepts).c is not None
    for options in (
        {"concepts": concepts.iloc[::-1]},
        {"concepts": dict(concepts.iloc[::-1])},
        {"y": pandas.Series(Y)[::-1]},
        {"groups": pandas.Series(Y)[::-1]},
    ):
        with pytest.raises(DataError, match="expected the index of x"):
            from_arrays(**{"x": x, "y": pandas.Series(Y)} | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": [1, None, 1, 1]}, ("weight, row 1",)),
        ({"weight": ["a"] * 4}, ("weight, row 0",)),
        ({"weight": [1, -1, 1, 1]}, ("weight, row 1", "-1")),
        ({"weight": [1, 1]}, ("weight", "4 rows", "got 2")),
        ({"groups": ["a", None, "b", "b"]}, ("group, row 1", "None")),
        ({"groups": pandas.Series(["a", None, "b", "b"])}, ("group, row 1",)),
        ({"groups": np.zeros((4, 2))}, ("group",)),
        ({"groups": 3}, ("groups", "int")),
        ({"groups": "abcd"}, ("group", "str")),
        ({"askable": [["a"]] * 4}, ("askable",)),
        ({"where": np.zeros((4, 2, 4))}, ("where", "(4, 1, 4)", "(4, 2, 4)")),
        ({"ids": ["a"]}, ("ids", "4 rows", "got 1")),
    ],
)
def test_what_goes_with_rows_must_fit_them(options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        from_arrays(X, Y, {"a": [0, 1, 0, 1]}, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_table_of_frames_splits_and_keeps_its_names() -> None:
    n = 60
    rng = np.random.default_rng(0)
    made = split(
        from_arrays(
            pandas.DataFrame(rng.normal(size=(n, 3))),
            pandas.Series(rng.choice(["a", "b"], n), name="kind"),
            frame(wet=rng.random(n) > 0.5, colour=rng.choice(["r", "g", "b"], n), size=rng.normal(size=n)),
            groups=[f"g{i // 3}" for i in range(n)],
        )
    )
    assert made.space.columns == ("wet", "colour=b", "colour=g", "colour=r", "size")
    assert sum(len(part) for part in (made.train, made.validation, made.test)) == n


@pytest.mark.parametrize(("stray", "kind"), [("maybe", "categorical"), (2, "continuous")])
def test_a_stray_value_that_decides_a_concepts_kind_is_a_warning(stray: object, kind: str) -> None:
    column: list[object] = ["0", "1"] * 20 if isinstance(stray, str) else [0, 1] * 20
    column[7] = stray
    with pytest.warns(UserWarning, match=rf"'fever'.* in row 7 makes it {kind}, 39 of 40 are 0 or 1; mend the value"):
        table = from_arrays(np.zeros((40, 2)), ["a", "b"] * 20, concepts={"fever": column})
    assert table.space.concepts[0].kind == kind
