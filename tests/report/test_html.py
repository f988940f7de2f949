"""The page: escaped, self-contained, well formed, complete, and whole when parts of the data are missing."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from isthmus.errors import DataError
from isthmus.report import html, markdown, table

Result = dict[str, Any]
Build = dict[str, Callable[..., Result]]
VOID = {"meta", "link", "img", "br"}
KINDS = ("compare", "asked", "evaluation", "hostile", "value_task")
TURNING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F]


class Read(HTMLParser):
    """Every element with its attributes and its parent's place, every text; unbalanced tags are errors."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None], int]] = []
        self.texts: list[tuple[str, int]] = []
        self.feed(page)
        self.close()
        assert not self.open, [self.elements[i] for i in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append((tag, dict(attrs), self.open[-1] if self.open else -1))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), self.open[-1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open[-1]][0] == tag, f"</{tag}> closes <{self.elements[self.open[-1]][0]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((data, self.open[-1] if self.open else -1))

    def named(self, tag: str) -> list[tuple[dict[str, str | None], int]]:
        """(attributes, place) of every element of a kind."""
        return [(attributes, i) for i, (found, attributes, _) in enumerate(self.elements) if found == tag]

    def children(self, place: int) -> list[str]:
        return [tag for tag, _, parent in self.elements if parent == place]

    @property
    def text(self) -> str:
        """What a reader sees, styles and scripts aside."""
        found = "".join(text for text, i in self.texts if i < 0 or self.elements[i][0] not in ("style", "script"))
        return " ".join(found.split())


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest, build: Build) -> str:
    return html(build[request.param]())


def test_tags_are_balanced_and_ids_unique(page: str) -> None:
    read = Read(page)
    ids = [attributes["id"] for _, attributes, _ in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and page.startswith("<!DOCTYPE html>")
    links = [attributes["href"] for attributes, _ in read.named("a")]
    assert links and all(link and link.startswith("#") and link[1:] in ids for link in links)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    read = Read(page)
    for tag, attributes, _ in read.elements:
        for key in set(attributes) & {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}:
            assert re.match(r"#|data:", attributes[key] or ""), (tag, key, attributes[key])
        assert not re.search(r"url\(|@import", attributes.get("style") or "")
        assert tag not in ("iframe", "object", "embed", "form", "base", "foreignobject", "use")
    style = "".join(text for text, i in read.texts if i >= 0 and read.elements[i][0] in ("style", "script"))
    assert not re.search(r"https?:|//\w|url\(|@import|fetch\(|XMLHttp|import\(", re.sub(r"//.*", "", style))


def test_its_own_policy_forbids_loading_and_foreign_scripts(page: str) -> None:
    read = Read(page)
    policy = next(a["content"] for a, _ in read.named("meta") if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "img-src data:;" in policy and "script-src 'sha256-" in policy
    scripts = [text for text, i in read.texts if i >= 0 and read.elements[i][0] == "script"]
    assert len(scripts) == len(read.named("script")) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_names_stay_text(build: Build) -> None:
    data = build["hostile"]()
    page = html(data)
    read = Read(page)
    assert (
        '<script>alert("x")</script>' in read.text
        and "{{ 7 * 7 }}{% raw %}" in read.text
        and "</title></style></svg><script>" in read.text
    )
    handlers = [key for _, attributes, _ in read.elements for key in attributes if key.startswith("on")]
    assert not handlers and not read.named("img")
    assert not [ch for ch in map(chr, TURNING) if ch in page] and "⟨U+202E⟩gnp.exe" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", page)
    page.encode("utf-8")


def test_pictures_are_embedded_or_left_out(build: Build) -> None:
    data = build["compare"](methods=4)
    assert len(Read(html(data)).named("img")) == 6
    for bad in (
        "https://example.org/x.png",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'x" onerror="y',
    ):
        for row in data["rows"]:
            for each in row["examples"]:
                each["image"] = bad
        assert not Read(html(data)).named("img")


def test_every_score_and_every_reason_is_there(build: Build) -> None:
    data = build["compare"]()
    text = Read(html(data)).text
    for row in data["rows"]:
        assert row["name"] in text and row["encoder"] in text
        for key, score in row["scores"].items():
            if "not_applicable" in score:
                assert score["not_applicable"] in text
            elif key == "fit_seconds":
                assert f"{score['value']:.{1 if score['value'] < 10 else 0}f} s" in text
            elif key != "nec":
                assert f"{score['value']:.3f}".removeprefix("0") in text, (row["name"], key)
                if score["low"] is not None:
                    assert f"[{score['low']:.3f}".replace("[0.", "[.") in text
    for part in (data["command"], data["commit"], data["interval"], "0, 1, 2", data["data"]["licence"], "2.13.0"):
        assert part in text
    for measure in data["metrics"].values():
        assert measure["title"] in text and measure["text"] in text
    assert "needs texts for the concepts" in text and "both decide nearly every row right" in text
    assert "No exact contributions: the head has a hidden layer." in text


def test_evaluation_of_one_model(build: Build) -> None:
    data = build["evaluation"]()
    read = Read(html(data))
    assert "Which bottleneck" not in read.text and "cbm sequential on Rendered poker hands" in read.text
    for key, score in data["scores"].items():
        assert data["metrics"][key]["title"] in read.text
        assert ("not_applicable" not in score) or score["not_applicable"] in read.text


def numbers(read: Read) -> Iterator[float]:
    """Every number in the geometry of the drawings."""
    places = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "d", "viewbox", "points"}
    for tag, attributes, _ in read.elements:
        if tag in ("svg", "rect", "line", "circle", "path", "text"):
            for key in places & set(attributes):
                yield from (
                    float(found) for found in re.findall(r"-?[\w.]+", re.sub(r"[MLHVCSZmlhvcsz]", " ", attributes[key] or ""))
                )


def test_drawings_have_finite_places_a_title_and_a_description(page: str) -> None:
    read = Read(page)
    found = list(numbers(read))
    assert found and all(math.isfinite(value) for value in found)
    sizes = [float(a[key] or "nan") for a, _ in read.named("rect") for key in ("width", "height")]
    assert all(size >= 0 for size in sizes)
    drawings = [(a, i) for a, i in read.named("svg") if a.get("role") == "img"]
    assert drawings and all(read.children(i)[:2] == ["title", "desc"] for _, i in drawings)
    others = [a for a, _ in read.named("svg") if a.get("role") != "img"]
    assert all(a.get("aria-hidden") == "true" for a in others)


def test_tables_say_what_they_are(page: str) -> None:
    read = Read(page)
    for _, place in read.named("table"):
        assert read.children(place)[0] == "caption"
    empty = [i for i, (tag, a, _) in enumerate(read.elements) if tag == "th" and "scope" not in a]
    assert all(not any(parent == i for _, parent in read.texts) for i in empty)
    regions = [a for _, a, _ in read.elements if a.get("role") == "region"]
    assert regions and all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


def test_one_view_of_each_example_is_open_without_scripts(build: Build) -> None:
    data = build["compare"]()
    read = Read(html(data))
    panels = [(a, p) for tag, a, p in read.elements if tag == "details" and "panel" in (a.get("class") or "")]
    groups: dict[int, list[str]] = {}
    for attributes, parent in panels:
        groups.setdefault(parent, []).extend(["x"] if "open" in attributes else [])
    assert len(groups) == 8 and all(len(opened) == 1 for opened in groups.values())


def test_flagged_pairs_and_replay(build: Build) -> None:
    data = build["compare"]()
    text = Read(html(data)).text
    assert "99.7 % alike" in text and "0.12 → given 1" in text and "three of a kind" in text
    data["replay"] = {"text": "ace of spades: 0.12 → given 1"}
    assert "ace of spades: 0.12 → given 1" in Read(html(data)).text


def test_another_schema_is_refused() -> None:
    for writer in (html, markdown, table):
        with pytest.raises(DataError, match=r"expected a result with schema 'isthmus.compare/1'.* got 'x'"):
            writer({"schema": "x"})


def keys(value: Any) -> set[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys(each)}
    return {key for each in value for key in keys(each)} if isinstance(value, list) else set()


def without(value: Any, key: str, instead: Any) -> Any:
    """A copy in which ``key`` holds ``instead`` wherever it stands; it is gone where that is ``...``."""
    if isinstance(value, dict):
        kept = {k: without(v, key, instead) for k, v in value.items() if k != key}
        return kept | ({key: instead} if key in value and instead is not ... else {})
    return [without(each, key, instead) for each in value] if isinstance(value, list) else value


def slim(data: Result) -> Result:
    """The same keys, fewer entries."""
    if "rows" in data:
        data["rows"] = [data["rows"][0], data["rows"][7]]
    for row in data.get("rows", [data]):
        row |= {key: row[key][:2] for key in ("examples", "history", "tuned", "concepts") if key in row}
        row["curves"] = {level: points[:2] for level, points in row["curves"].items()}
    return data


@pytest.mark.parametrize("instead", [..., None, [], {}, "junk", float("nan"), 7], ids=str)
@pytest.mark.parametrize("kind", ["compare", "asked", "evaluation"])
def test_pages_survive_parts_that_are_missing_or_odd(build: Build, kind: str, instead: Any) -> None:
    data = slim(build["compare"](names=["a", "b"], classes=["c", "d"]) if kind == "compare" else build[kind]())
    for key in sorted(keys(data) - {"schema"}):
        if key == "rows" and kind != "evaluation":
            with pytest.raises(DataError, match="at least one method in 'rows'"):
                html(without(data, key, instead))
            continue
        Read(html(without(data, key, instead)))
        markdown(without(data, key, instead))
        table(without(data, key, instead))


def test_the_data_are_left_as_they_were(build: Build) -> None:
    data = build["compare"](methods=4)
    before = copy.deepcopy(data)
    html(data), markdown(data), table(data)
    assert data == before


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, 0 to 1 (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_light_and_dark(build: Build) -> None:
    style = html(build["evaluation"]()).split("<style>")[1].split("</style>")[0]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2])
    for found in (light, dark):
        for ground in ("bg", "paper"):
            base = luminance(found[ground])
            for name, colour in found.items():
                least = 4.5 if name in ("ink", "muted", "accent", "good", "bad") else 3 if re.fullmatch(r"[sy]\d", name) else 1
                high, low = max(base, luminance(colour)), min(base, luminance(colour))
                assert (high + 0.05) / (low + 0.05) >= least, (name, colour, ground)
    assert len(light) >= 21 and set(dark) == set(light)


def test_many_methods_concepts_and_classes(build: Build) -> None:
    data = build["compare"](names=[f"attribute {i}" for i in range(120)], classes=[f"class {i}" for i in range(60)])
    data["rows"] = [row | {"name": f"{row['name']} {i}"} for i in range(3) for row in data["rows"]]
    read = Read(html(data))
    assert "attribute 119" in read.text and "cbm joint 2" in read.text and "Commonest mistakes" in read.text
