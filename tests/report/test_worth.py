"""What policies are worth: grids in the terminal, Markdown and the page; panels; what results of before still show."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from isthmus.report import corrections, html, markdown, worth
from isthmus.report.page import read
from isthmus.report.panels import paints, panels
from isthmus.report.worth import Grid, grids, notes, reasons, told

Build = dict[str, Callable[..., dict[str, Any]]]
REVEALED = "orrections reveal the class: concept labels are one vector for each class"


def printed(data: dict[str, Any], width: int = 100) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for each in worth(data):
        console.print(each)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_marks_are_paired_intervals_that_leave_out_zero(build: Build) -> None:
    data = build["asked"]()
    concept, group = grids(read(data))
    assert [line.policy for line in group.lines] == ["random:group", "lcp:group"] and group.lines[1].name == "lcp †"
    for line in concept.lines:
        for row, cell in zip(concept.rows, line.cells, strict=True):
            over = row.data["asked"].get(line.policy, {}).get("over_random")
            wanted = "" if over is None else "▲" if over["low"] > 0 else "▼" if over["high"] < 0 else ""
            assert cell.mark == wanted
    assert {cell.mark for cell in (*concept.cells, *group.cells)} == {"", "▲"}
    edge = data["rows"][3]["asked"]["ucp"]
    for low, high, mark in ((0.0, 0.1, ""), (-0.1, 0.0, ""), (-0.2, -0.1, "▼"), (None, None, "")):
        edge["over_random"] = {"value": 0.0, "low": low, "high": high}
        assert grids(read(data))[0].lines[1].cells[0].mark == mark


def test_the_terminal_shows_policies_by_methods_within_its_width(build: Build) -> None:
    data = build["asked"]()
    for row in data["rows"][4:]:
        row["name"] = f"{row['name']} with a name of many words"
    told = printed(data)
    lines = told.splitlines()
    assert all(len(line) <= 100 for line in lines)
    ucp = next(line for line in lines if line.split()[:1] == ["ucp"])
    assert ucp.split() == ["ucp", *["▲.925"] * 5]
    assert next(line for line in lines if line.startswith(" kflip")).split() == ["kflip", "to", "2", "-", *[".900"] * 4]
    assert next(line for line in lines if line.startswith(" ectp")).split()[-2:] == ["▲.915", "‡▲.915"]
    assert next(line for line in lines if line.startswith(" most harm")).split()[2] == ".066"
    assert re.search(r"by concept.*by group.*Area under the curve", told, re.DOTALL) and "so a sample (300" in told
    assert "- not applicable, kflip (cbm joint): it needs binary concepts only." in told
    assert corrections(data) is None


def test_samples_of_several_sizes_are_told_apart(build: Build) -> None:
    """One sentence, in which it is plain where one sample ends and the next begins."""
    data = build["asked"]()
    cells = [told for row in data["rows"] for told in row.get("asked", {}).values() if "area" in told]
    cells[0]["sample"], cells[1]["sample"] = "all 73 rows and at most 9 questions", "all 73 rows and at most 10 questions"
    page = read(data)
    said = [each for each in notes(page, grids(page)) if each.startswith("‡")]
    both = "all 73 rows and at most 9 questions; or all 73 rows and at most 10 questions"
    assert len(said) == 1 and f"‡ each look is a whole inference, so a sample ({both}" in said[0]


def test_many_methods_are_split_into_tables(build: Build) -> None:
    data = build["asked"]()
    data["rows"] += [row | {"name": f"{row['name']} {i}"} for i in range(4) for row in data["rows"][3:]]
    told = printed(data)
    assert all(len(line) <= 100 for line in told.splitlines()) and told.count("by concept") > 1
    values = [line.split()[1:] for line in told.splitlines() if line.startswith(" static")]
    assert sum(map(len, values)) == 25


def test_a_few_single_budgets_stay_a_list(build: Build) -> None:
    data = build["compare"]()
    assert worth(data) == [] and corrections(data) is not None and "Policies" not in html(data)
    few = build["asked"](methods=4)
    few["rows"][3]["policies"] = {"ucp": few["rows"][3]["policies"]["ucp"][:4]}
    assert corrections(few) is not None and worth(few) == []
    assert "policy, by concept" in markdown(few)  # four budgets from none on have an area
    few["rows"][3]["policies"]["ucp"] = few["rows"][3]["policies"]["ucp"][1:]
    assert not grids(read(few)) and "policy, by" not in markdown(few)


def test_published_figures_are_told_beside_the_grid(build: Build) -> None:
    data = build["asked"]() | {"published": {"source": "a paper", "ucp": {"2": 0.961}, "blackbox": 0.9}}
    assert "Published (a paper): ucp 2 .961, black box .900." in printed(data)


def test_markdown_has_a_table_for_each_level_with_harm(build: Build) -> None:
    data = build["asked"](methods=5)
    told = markdown(data)
    assert "| policy, by concept | cbm joint | cbm sequential |" in told and "| policy, by group |" in told
    assert "| ucp | ▲.925 (.022) | ▲.925 (.022) |" in told and "| lcp † | ▲.920 (.033) |" in told
    assert "| kflip to 2 | n/a | .900 (.077) |" in told and "- n/a, kflip (cbm joint): it needs binary concepts only" in told
    assert "- In brackets harm: the largest share of rows" in told
    assert told.index("policy, by concept") < told.index("| method | policy | k |")


def test_reasons_are_grouped(build: Build) -> None:
    data = build["asked"]()
    for row in data["rows"][3:]:
        row["policies"]["static"] = {"not_applicable": "it cannot"}
    data["rows"][3]["policies"]["ucp"] = {"not_applicable": "it needs binary concepts only"}
    assert reasons(grids(read(data))) == [
        {"reason": "it needs binary concepts only", "policies": "ucp and kflip", "names": "cbm joint"},
        {"reason": "it cannot", "policies": "static", "names": "every method"},
    ]


@pytest.mark.parametrize("known", [True, False, None, "yes"])
def test_class_level_labels_are_told_where_corrections_are(build: Build, known: object) -> None:
    from isthmus.report import table

    for kind in ("asked", "compare"):
        data = build[kind]()
        data["data"]["class_level"] = known
        count = html(data).count(REVEALED)
        assert count == ((2 if kind == "asked" else 1) if known is True else 0)
        assert (REVEALED in markdown(data)) == (known is True)
        assert (REVEALED in str(table(data).caption)) == (known is True)
        assert (REVEALED in printed(data)) == (known is True and kind == "asked")


def test_a_panel_for_each_method_with_a_line_for_each_policy(build: Build) -> None:
    page = read(build["asked"]())
    found = grids(page)
    paint = paints(found)
    assert len({(index % 6, classes) for index, classes in paint.values()}) == len(paint)
    assert paint["random"][1] == "series y1 random"
    assert {name for name, (_, classes) in paint.items() if "oracle" in classes} == {"lcp", "greedy"}
    made = panels(page, found[0], paint)
    assert [each["name"] for each in made] == [row.name for row in found[0].rows]
    for each, cells in zip(made, zip(*(line.cells for line in found[0].lines), strict=True), strict=True):
        root = ElementTree.fromstring(each["chart"])
        assert [child.tag for child in root][:2] == ["title", "desc"] and root.get("role") == "img"
        series = [g for g in root if g.tag == "g" and (g.get("class") or "").startswith("series")]
        assert len(series) == sum(bool(cell.points) for cell in cells)
        assert series[-1].get("class") == "series y1 random" and all(g[0].tag == "title" for g in series)
        places = [float(v) for g in series for v in (g.find("path").get("d") or "")[1:].split()]  # type: ignore[union-attr]
        assert all(38 <= x <= 272 for x in places[::2]) and all(8 <= y <= 174 for y in places[1::2])


def test_higher_scores_are_drawn_higher_on_one_scale(build: Build) -> None:
    page = read(build["asked"]())
    grid: Grid = grids(page)[0]
    chart = ElementTree.fromstring(panels(page, grid, paints([grid]))[0]["chart"])
    series = [g for g in chart if (g.get("class") or "").startswith("series")]
    lines = {(g[0].text or "").split(":")[0]: (g[1].get("d") or "")[1:].split() for g in series}
    ys = {name: [float(y) for y in numbers[1::2]] for name, numbers in lines.items()}
    assert ys["random"] == sorted(ys["random"], reverse=True)  # the score rises, so the height falls
    assert all(a < b for a, b in zip(ys["random"], ys["static"], strict=True))


def test_the_page_folds_the_long_list_and_tells_every_area(build: Build) -> None:
    data = build["asked"]()
    page = html(data)
    assert page.index("Every score after every budget") < page.index("Scores after corrections chosen by a named policy")
    cell = grids(read(data))[0].lines[1].cells[0]
    said = told(read(data), cell)
    over, gain = "to random order +.025 [+.015, +.035]", "gain at the last budget +.080; 95 % of it with 5"
    assert said == f"area .925 [.900, .950]; {over}; {gain}; harm .022"
    assert said in page


def test_results_of_before_still_show(build: Build) -> None:
    data = build["asked"]()
    for row in data["rows"]:
        row.pop("asked", None)
    del data["data"]["complete"]
    assert grids(read(data)) == [] and corrections(data) is not None and worth(data) == []
    assert "By policy" in html(data) and "| method | policy | k |" in markdown(data)
    data = build["asked"]()
    for row in data["rows"]:
        for each in row.get("asked", {}).values():
            del each["oracle"], each["harm"]
            each.pop("over_random", None)
    found = grids(read(data))
    assert not any("harm" in each or "†" in each or "▲" in each for each in notes(read(data), found))
    assert "most harm" not in printed(data) and html(data)
