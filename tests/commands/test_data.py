"""The data argument of a command, what ``data show`` says, and the files that ``data make`` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from isthmus.commands.source import Loaded, pinned, read
from isthmus.commands.survey import survey
from isthmus.commands.writing import image_sheet, write_folder
from isthmus.data import Images, Splits, Table, Texts, load, split
from isthmus.errors import DataError, OptionError
from isthmus.space import Concept, ConceptSpace, Task
from isthmus.testing import world

ROWS = """age,height,winter,colour,species,patient
1,2.5,1,red,owl,a
2,1.5,0,blue,hen,b
3,0.5,,red,owl,c
4,2.0,1,,hen,d
5,3.5,0,blue,owl,e
6,4.5,1,red,hen,f
7,2.2,0,blue,owl,g
8,1.1,1,red,hen,h
9,0.2,0,blue,owl,i
10,3.3,1,red,hen,j
11,2.6,0,blue,owl,k
12,1.7,1,red,hen,k
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    place = tmp_path / "rows.csv"
    place.write_text(ROWS)
    return place


def same(a: Any, b: Any) -> bool:
    return torch.allclose(a, b, rtol=1e-6, equal_nan=True)


def test_a_table_by_label_and_concepts(rows: Path) -> None:
    loaded = read(f"{rows}:group=patient,seed=1", label="species", concepts="winter,colour")
    data = loaded.splits
    assert loaded.inputs == ["age", "height"]
    assert [c.kind for c in data.space.concepts] == ["binary", "categorical"]
    assert data.task == Task.classes(("hen", "owl"))
    assert data.train.group is not None
    everything = torch.cat([part.x for part in (data.train, data.validation, data.test)])
    assert sorted(everything[:, 0].tolist()) == list(range(1, 13))


def test_options_behind_the_colon_say_the_same(rows: Path) -> None:
    one = read(f"{rows}:group=patient", label="species", concepts="winter,colour").splits
    two = read(f"{rows}:label=species,concepts=[winter,colour],group=patient").splits
    assert torch.equal(one.train.y, two.train.y)
    assert one.space == two.space


def test_captions_are_no_input_and_come_back_from_a_folder(tmp_path: Path, run: Any) -> None:
    place = tmp_path / "rows.csv"
    place.write_text("age,note,dark,species\n" + "".join(f'{i},"row {i}, seen",{i % 2},{"uv"[i % 2]}\n' for i in range(30)))
    loaded = read(f"{place}:caption=note", label="species", concepts="dark")
    assert loaded.inputs == ["age"]
    assert loaded.splits.test.caption == [f"row {int(age)}, seen" for age in loaded.splits.test.x[:, 0]]
    shown = run("data", "show", f"{place}:caption=note", "--label", "species", "--concepts", "dark").stdout
    assert f"{len(loaded.splits.train)} different in train" in shown
    write_folder(loaded, tmp_path / "out")
    again = read(str(tmp_path / "out"))
    assert again.inputs == ["age"]
    for name in ("train", "validation", "test"):
        assert getattr(again.splits, name).caption == getattr(loaded.splits, name).caption


def test_captions_of_images_beside_a_concept_of_that_name(tmp_path: Path) -> None:
    task, space = Task.classes(("u", "v")), ConceptSpace.binary(("caption",))
    x, y = torch.randint(0, 255, (30, 3, 8, 8), dtype=torch.uint8), torch.arange(30) % 2
    table = Table(x, c=y.float()[:, None], y=y, space=space, task=task, caption=[f"picture {i}" for i in range(30)])
    data = split(table, name="pictures")
    write_folder(Loaded(data), tmp_path / "out")
    again = read(str(tmp_path / "out")).splits
    assert again.train.caption == data.train.caption
    assert torch.equal(again.train.c, data.train.c)
    options = "image=file,split_column=split,caption=caption (text)"
    named = read(f"{tmp_path / 'out'}:{options}", label="class", table=Path("table.csv"), concepts="caption").splits
    assert named.train.caption == data.train.caption


def test_a_text_column_and_a_value(tmp_path: Path) -> None:
    place = tmp_path / "reviews.csv"
    place.write_text("review,stars\n" + "".join(f"film {i},{i}.5\n" for i in range(20)))
    loaded = read(f"{place}:features=review,task=value", label="stars")
    assert isinstance(loaded.splits.train.x, Texts)
    assert loaded.splits.task.kind == "value"
    assert loaded.inputs is None


@pytest.mark.parametrize(
    ("text", "named", "error", "said"),
    [
        ("{}", {}, OptionError, "--label"),
        ("{}", {"label": "specie"}, Exception, "did you mean 'species'"),
        ("{}", {"label": "species", "concepts": "wintr"}, Exception, "did you mean 'winter'"),
        ("{}:label=species", {"label": "species"}, OptionError, "given twice"),
        ("{}:labels=species", {}, Exception, "--label"),
        ("{}:grup=patient", {"label": "species"}, Exception, "did you mean 'group'"),
        ("{}", {"label": "species", "concepts": "species"}, DataError, "species"),
        ("xor", {"concepts": "a"}, OptionError, "columns of its own"),
        ("nothing", {}, Exception, "unknown data set"),
    ],
)
def test_what_does_not_fit_is_said(text: str, named: dict[str, Any], error: type, said: str, rows: Path) -> None:
    with pytest.raises(error, match=said):
        read(text.format(rows), **named)


def test_a_saved_source_is_found_from_elsewhere(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows.parent)
    kept = pinned("rows.csv:group=patient", label="species", concepts=None, table=Path("x.csv"))
    assert kept["name"] == f"{rows}:group=patient"
    assert kept["table"] == str(rows.parent / "x.csv")
    assert pinned("xor:rows=300", label=None, concepts=None, table=None)["name"] == "xor:rows=300"


def test_a_table_from_the_command_line_to_predictions(run: Any, rows: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(rows.parent)
    words = ("--label", "species", "--concepts", "winter,colour", "--out", "run", "--epochs", 2)
    fitted = run("fit", "cbm", "rows.csv:group=patient", *words)
    assert "saved in run" in fitted.stdout
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert json.loads(run("evaluate", tmp_path / "run", "--json").stdout)["data"]["name"] == "rows"
    (tmp_path / "new.csv").write_text("height,extra,age\n2.5,0,1\n")
    (tmp_path / "same.csv").write_text("age,height\n1,2.5\n")
    a, b = (run("predict", tmp_path / "run", tmp_path / name).stdout for name in ("new.csv", "same.csv"))
    assert a.splitlines()[1].split(",")[1:] == b.splitlines()[1].split(",")[1:]
    assert "colour=red" in a.splitlines()[0]
    (tmp_path / "lacks.csv").write_text("age,heigth\n1,2.5\n")
    message = run("predict", tmp_path / "run", tmp_path / "lacks.csv", code=2).stderr
    assert "did you mean 'heigth'" in message
    assert "lacks.csv" in message


def test_a_concept_that_never_varies_is_a_warning(run: Any, tmp_path: Path) -> None:
    place = tmp_path / "rows.csv"
    place.write_text("a,b,y\n" + "".join(f"{i},1,{'uv'[i % 2]}\n" for i in range(20)))
    result = run("data", "show", place, "--label", "y", "--concepts", "b", "--json")
    assert result.stderr.count("warning: concept 'b' never varies in train") == 1
    assert json.loads(result.stdout)["concepts"][0]["rate"] == 1.0
    assert read(str(place), label="y", concepts="b", worded=True).splits.space.names == ("b",)  # any warning is an error here


def test_survey_counts_what_is_there() -> None:
    data = load("tabular_toy", rows=400)
    told = survey(data)
    assert told["rows"] == {"train": 280, "validation": 40, "test": 80}
    assert told["inputs"] == "7 numbers"
    assert data.train.c is not None
    assert data.train.y is not None
    assert [c["rate"] for c in told["concepts"]] == pytest.approx(data.train.c.mean(0).tolist())
    assert {c["name"]: c["count"] for c in told["classes"]} == {
        "no": int((data.train.y == 0).sum()),
        "yes": int((data.train.y == 1).sum()),
    }
    assert told["warnings"] == []
    assert told["card"]["licence"] == "Apache-2.0"


def test_survey_warns_of_rare_concepts_missing_classes_and_unknown_labels() -> None:
    c = torch.zeros(100, 2)
    c[0, 0] = 1
    c[:50, 1] = 1
    c[3, 1] = float("nan")
    y = torch.arange(100) % 2
    space, task = ConceptSpace.binary(("rare", "even")), Task.classes(("a", "b", "c"))
    part = Table(torch.rand(100, 2), c=c, y=y, space=space, task=task)
    said = " | ".join(survey(Splits(part, part, part))["warnings"])
    assert "1 concepts are in one state on more than 98% of train: rare" in said
    assert "test has no row of c" in said
    assert "1 concepts have unknown labels in train: even" in said


@pytest.mark.parametrize("task", ["classes", "labels", "value"])
def test_files_of_a_data_set_read_back_the_same(task: str, tmp_path: Path) -> None:
    data = world(("binary", "categorical", "continuous"), task)
    write_folder(Loaded(data), tmp_path / "out")
    again = read(str(tmp_path / "out"))
    assert again.inputs == [f"x{i + 1}" for i in range(8)]
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(data, name), getattr(again.splits, name)
        assert same(ours.x, theirs.x)
        assert same(ours.c, theirs.c)
        assert same(ours.y, theirs.y)
    assert [(c.name, c.kind, c.states, c.group, c.unit) for c in again.splits.space.concepts] == [
        (c.name, c.kind, c.states, c.group, c.unit) for c in data.space.concepts
    ]
    assert again.splits.task.names == data.task.names
    assert again.splits.task.unit == data.task.unit


def test_images_and_texts_read_back_the_same(tmp_path: Path) -> None:
    poker = load("poker", concepts="suit-rank", train=30, validation=10, test=10)
    write_folder(Loaded(poker), tmp_path / "cards")
    again = read(str(tmp_path / "cards")).splits
    assert isinstance(again.train.x, Images)
    assert torch.equal(again.test.read(), poker.test.x)
    assert torch.equal(again.train.c, poker.train.c)
    assert torch.equal(again.train.y, poker.train.y)
    assert again.card == poker.card
    with Image.open(tmp_path / "cards" / "sheet.png") as sheet:
        assert sheet.size[0] > 500

    texts = Texts([f'a "text", number {i}\nof two lines' for i in range(40)])
    task, space = Task.classes(("u", "v")), ConceptSpace.of(Concept("loud", group="sound"))
    table = Table(texts, c=(torch.arange(40) % 3 == 0).float()[:, None], y=torch.arange(40) % 2, space=space, task=task)
    data = split(table, name="notes")
    write_folder(Loaded(data), tmp_path / "notes")
    notes = read(str(tmp_path / "notes")).splits
    assert notes.train.x.read() == data.train.x.read()
    assert torch.equal(notes.train.y, data.train.y)


def test_make_from_the_command_line(run: Any, tmp_path: Path) -> None:
    told = json.loads(run("data", "make", "poker:train=12,validation=6,test=6", "--out", tmp_path / "p", "--json").stdout)
    assert [Path(file).name for file in told["files"]] == ["table.csv", "data.json", "images", "sheet.png"]
    assert all(Path(file).exists() for file in told["files"])
    with (tmp_path / "p" / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24
    assert {line["split"] for line in lines} == {"train", "validation", "test"}
    assert sum(int(lines[0][name]) for name in lines[0] if " of " in name) == 3, "three cards in a hand"
    assert "other files" in run("data", "make", "xor:rows=100", "--out", tmp_path / "p", code=2).stderr
    assert f"isthmus compare {tmp_path / 'p'}" in told["again"]


def test_what_has_no_file_form_is_refused(tmp_path: Path) -> None:
    task = Task.classes(("u", "v"))
    part = Table({"a": torch.rand(9, 2), "b": torch.rand(9, 3)}, y=torch.arange(9) % 2, task=task)
    with pytest.raises(DataError, match="file form"):
        write_folder(Loaded(Splits(part, part, part)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "{}", '{"read": 3}', '{"read": {"table": "t.csv"}}'])
def test_a_broken_note_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(DataError, match=r"data\.json"):
        read(str(tmp_path))


def test_a_sheet_shows_the_classes_in_turn(tmp_path: Path) -> None:
    x = torch.zeros(30, 3, 20, 30, dtype=torch.uint8)
    x[15:, 0] = 255
    table = Table(x, y=(torch.arange(30) >= 15).long(), task=Task.classes(("black", "red")))
    image_sheet(table, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = opened.convert("RGB")
    wide = 30 * 3
    colours = [sheet.getpixel((8 + i * (wide + 8) + wide // 2, 8 + 30)) for i in range(4)]
    assert colours == [(0, 0, 0), (255, 0, 0), (0, 0, 0), (255, 0, 0)]


def test_show_writes_a_sheet_and_names_the_licence(run: Any, tmp_path: Path) -> None:
    said = run("data", "show", "poker:train=12,validation=6,test=6", "--sheet", tmp_path / "s.png").stdout
    assert (tmp_path / "s.png").is_file()
    for words in (
        "Apache-2.0",
        "12 train, 6 validation, 6 test",
        "images of 112x56 px",
        "straight flush",
        "ace of spades",
    ):
        assert words in said
    few = run("data", "show", "wide", code=2).stderr
    assert "unknown data set" in few


def test_wbcatt_from_the_data_folder(run: Any, isthmus_data: Any) -> None:
    isthmus_data("images/wbcatt_128.npz")
    told = json.loads(run("data", "show", "wbcatt", "--json").stdout)
    assert told["rows"] == {"train": 6169, "validation": 1030, "test": 3099}
    assert len(told["concepts"]) == 11
