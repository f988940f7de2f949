"""Builds results as ``compare`` and ``evaluate`` make them, without any model: figures from a seeded generator."""

from __future__ import annotations

import base64
import copy
import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

Result = dict[str, Any]
EVIL = '<script>alert("x")</script>'
RANKS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "jack", "queen", "king", "ace")
CARDS = [f"{rank} of {suit}" for suit in ("clubs", "diamonds", "hearts", "spades") for rank in RANKS]
HANDS = ["high card", "pair", "flush", "straight", "three of a kind", "straight flush"]
HOSTILE = [
    EVIL,
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "\u202egnp.exe\u202c",
    "</title></style></svg><script>",
    "{{ 7 * 7 }}{% raw %}",
    "a|b`c`[link](javascript:alert(1))*_~",
    "\ud800 lone \x00 nul \x1b[31m",
    "x" * 300,
    "line one\nline two\ttab",
    "אבג دهو",
    "https://example.org/?a=1&b=2",
]
HIDDEN = "the head has a hidden layer"
# name, method, family, sealed, score, concept F1, curve at the end, seconds, linear head
METHODS: list[tuple[str, str, str, bool, float, float | None, float, float, bool]] = [
    ("blackbox", "blackbox", "yardstick", False, 0.956, None, 0.0, 4.1, False),
    ("linear_probe", "linear_probe", "yardstick", False, 0.873, None, 0.0, 2.2, True),
    ("random_concepts", "random_concepts", "yardstick", True, 0.694, None, 0.0, 3.9, False),
    ("cbm joint", "cbm", "supervised", True, 0.951, 0.902, 0.988, 6.3, False),
    ("cbm sequential", "cbm", "supervised", True, 0.944, 0.931, 0.986, 3.2, False),
    ("cbm independent", "cbm", "supervised", True, 0.936, 0.931, 0.991, 2.9, False),
    ("cem", "cem", "embedding", False, 0.953, 0.918, 0.979, 14.7, False),
    ("sidechannel", "sidechannel", "supervised", False, 0.947, 0.922, 0.962, 5.0, True),
]
TITLES = {
    "blackbox": "Black box",
    "linear_probe": "Linear probe",
    "random_concepts": "Random concepts",
    "cbm": "Concept bottleneck model",
    "cem": "Concept embedding model",
    "sidechannel": "Concept bottleneck with a side channel",
}
PAPERS = {"cbm": "Koh et al., ICML 2020, arXiv 2007.04612", "cem": "Espinosa Zarlenga et al., NeurIPS 2022"}


def measure(title: str, of: str, text: str, *, better: str = "up", unit: str = "share", high: float | None = 1) -> Result:
    return {"title": title, "unit": unit, "low": 0, "high": high, "better": better, "of": of, "text": text}


METRICS: dict[str, Result] = {
    "accuracy": measure("task accuracy", "task", "share of rows that are decided right"),
    "balanced_accuracy": measure("balanced accuracy", "task", "mean over classes of the share of its rows decided right"),
    "ece": measure("ECE", "task", "expected calibration error over 15 equal-width bins", better="down"),
    "concept_accuracy": measure("concept accuracy", "concepts", "mean over concepts of the share of labels read right"),
    "concept_macro_f1": measure("concept macro F1", "concepts", "mean F1 over the columns that have both answers"),
    "concept_all_right": measure("all concepts right", "concepts", "share of rows on which every concept is read right"),
    "curve_area": measure("curve area", "correction", "area under the correction curve", unit="score"),
    "gain_all": measure("gain when all are corrected", "correction", "score with all corrected, minus none", unit="score"),
    "k95": measure("95 % of the gain at", "correction", "smallest share of corrected concepts", better="down"),
    "bypass": measure("bypass", "strip", "share of decisions that change when x is swapped", better="down"),
    "nec": measure("NEC", "strip", "number of effective concepts", better="down", unit="concepts a class", high=None),
    "fit_seconds": measure("seconds to fit", "cost", "wall time of the fit", better="down", unit="s", high=None),
}


def score(value: float, width: float | None = 0.01, seeds: int = 3, gap: float | None = None) -> Result:
    half = width or 0.0
    return {
        "value": round(value, 6),
        "low": None if width is None else round(value - half, 6),
        "high": None if width is None else round(value + half, 6),
        "seeds": [round(value + 0.004 * (s - (seeds - 1) / 2), 6) for s in range(seeds)],
        "spread": 0.004 if seeds > 1 else None,
        "difference": None if gap is None else {"value": gap, "low": gap - 0.006, "high": gap + 0.006},
    }


def none(reason: str) -> Result:
    return {"not_applicable": reason}


def scores_of(spec: tuple[Any, ...], seeds: int, black: float, concepts: int) -> Result:
    name, _, _, sealed, value, f1, end, seconds, linear = spec
    why = "no concepts" if name in ("blackbox", "linear_probe") else "no labels for these concepts"
    found: Result = {
        "accuracy": score(value, 0.009, seeds, round(value - black, 6)),
        "balanced_accuracy": score(value - 0.004, 0.009, seeds),
        "ece": score(0.011 + (1 - value) / 5, 0.004, seeds),
        "fit_seconds": score(seconds, None, seeds),
        "nec": score(concepts * 0.9, None, seeds) if linear and f1 else none("no concepts" if not f1 else HIDDEN),
        "bypass": score(0.0 if sealed else 0.21, 0.0, seeds) if why[3] != "c" or f1 else none("no concepts: everything passes"),
    }
    if f1 is None:
        return found | {key: none(why) for key in METRICS if key.startswith(("concept", "curve", "gain", "k95"))}
    return found | {
        "concept_accuracy": score(0.94 + f1 / 20, 0.002, seeds),
        "concept_macro_f1": score(f1, 0.006, seeds),
        "concept_all_right": score(f1 - 0.21, 0.015, seeds),
        "curve_area": score((value + 3 * end) / 4, 0.006, seeds),
        "gain_all": score(end - value, 0.005, seeds),
        "k95": score(0.62, None, seeds) if end > value else none("corrections gain nothing"),
    }


def curve(start: float, end: float, concepts: int, points: int = 14) -> list[Result]:
    found: list[Result] = []
    for i in range(points):
        k = round(i * concepts / (points - 1))
        value = start + (end - start) * (1 - math.exp(-3 * k / concepts)) / (1 - math.exp(-3))
        found.append({"k": k, "share": k / concepts, "value": value, "low": value - 0.008, "high": value + 0.007})
    return found


def picture(seed: int) -> str:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (112, 56), (34, 102, 68))
    draw = ImageDraw.Draw(image)
    for i in range(3):
        draw.rectangle((6 + 36 * i, 5 + (seed + i) % 4, 34 + 36 * i, 50), fill=(252, 251, 246), outline=(90, 90, 90))
        draw.ellipse((14 + 36 * i, 20, 26 + 36 * i, 32), fill=(200, 20, 30) if (seed + i) % 2 else (20, 20, 24))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def example(i: int, spec: tuple[Any, ...], names: list[str], classes: list[str], pictures: list[str]) -> Result:
    rng, right = random.Random(f"{i}{spec[0]}"), (i + len(spec[0])) % 4 != 0
    truth = classes[i % len(classes)]
    answer = truth if right else classes[(i + 1) % len(classes)]
    order = [answer, *[name for name in classes if name != answer]]
    left, chances = 1.0, []
    for name in order[:6]:
        value = left * (0.82 if right else 0.55)
        chances.append({"name": name, "value": round(value, 4)})
        left -= value
    picked = rng.sample(names, min(12, len(names))) if spec[5] else []
    concepts = [
        {
            "name": name,
            "value": round(rng.uniform(0.7, 1) if k < 3 else rng.uniform(0, 0.2 if k < 10 else 0.7), 4),
            "truth": float(k < 3) if k != 8 else None,
            "contribution": round(rng.gauss(0.3, 1.1), 4) if spec[8] else None,
        }
        for k, name in enumerate(picked)
    ]
    return {
        "row": 7 * i,
        "id": f"test {7 * i}",
        "image": pictures[i % len(pictures)],
        "text": None,
        "truth": truth,
        "answer": answer,
        "right": right,
        "probabilities": chances,
        "concepts": concepts,
        "remainder": round(rng.gauss(0, 0.5), 4) if spec[8] and picked else None,
        "contributions": ("exact" if spec[8] else f"no exact contributions: {HIDDEN}") if picked else "no concepts",
    }


def concept_rows(f1: float | None, names: list[str]) -> list[Result]:
    if f1 is None:
        return []
    rng, found = random.Random(0), list[Result]()
    for name in names:
        rate = rng.uniform(0.03, 0.09)
        mine = min(1.0, max(0.0, rng.gauss(f1, 0.05)))
        found.append(
            {
                "name": name,
                "kind": "binary",
                "group": None,
                "known": 2500,
                "rate": rate,
                "accuracy": 1 - 2 * rate * (1 - mine),
            }
            | {"f1": mine, "majority": 1 - rate}
        )
    return found


def confusion(value: float, classes: int, rows: int) -> list[list[int]]:
    rng = random.Random(classes)
    found = [
        [round(rows / classes * (1 - value) / max(classes - 1, 1) * rng.uniform(0, 2)) for _ in range(classes)]
        for _ in range(classes)
    ]
    for i in range(classes):
        found[i][i] = round(rows / classes * value)
    return found


def row_of(spec: tuple[Any, ...], seeds: int, names: list[str], classes: list[str], pictures: list[str]) -> Result:
    name, method, family, sealed, value, f1, end, seconds, _ = spec
    history = [{"stage": "concepts", "epoch": e, "loss": 0.7 * 0.8**e, "validation": 0.72 * 0.82**e + 0.03} for e in range(12)]
    history += [{"stage": "head", "epoch": e, "loss": 1.6 * 0.75**e, "validation": 1.6 * 0.78**e + 0.1} for e in range(9)]
    tried = [(1e-3, 0.0), (1e-2, 0.0), (1e-3, 4e-5), (1e-2, 4e-5)]
    return {
        "name": name,
        "method": method,
        "title": TITLES.get(method, method),
        "paper": PAPERS.get(method, ""),
        "family": family,
        "options": {"lr": 0.01, "weight_decay": 0.0, "head": "mlp"},
        "encoder": "resnet on the task" if method in ("blackbox", "linear_probe") else "resnet on concepts",
        "sealed": sealed,
        "exempt": {} if sealed else {"5": "x still reaches the task when every concept is given"},
        "notes": "",
        "tuned": [
            {"options": {"lr": lr, "weight_decay": decay}, "validation": value - 0.01 + 0.002 * i}
            for i, (lr, decay) in enumerate(tried)
        ],
        "scores": scores_of(spec, seeds, METHODS[0][4], len(names)),
        "curves": {"concept": curve(value, end, len(names)), "group": curve(value, end, 13)} if f1 else {},
        "policies": {"kflip": [{"k": k, "accuracy": score(value + k / 100)} for k in (1, 3)]} if f1 else {},
        "concepts": concept_rows(f1, names),
        "confusion": confusion(value, len(classes), 2500 * seeds),
        "nec_point": None,
        "examples": [example(i, spec, names, classes, pictures) for i in range(6)],
        "history": history,
        "seconds": seconds * 4,
        "parameters": 12345 + len(name),
    }


def compare(
    *,
    methods: int = 8,
    seeds: int = 3,
    names: list[str] | None = None,
    classes: list[str] | None = None,
    pictures: list[str] | None = None,
) -> Result:
    """A comparison on poker as ``compare`` makes it, with the first ``methods`` of ``METHODS``."""
    names, classes = names or CARDS, classes or HANDS
    rows = [row_of(spec, seeds, names, classes, pictures or [picture(i) for i in range(6)]) for spec in METHODS[:methods]]
    called = [row["name"] for row in rows]
    return {
        "schema": "isthmus.compare/1",
        "title": "poker",
        "created": "2026-11-24T04:00:00Z",
        "commit": "b2e591100",
        "command": f"isthmus compare poker --seeds {seeds}",
        "versions": {"isthmus": "0.1.0", "torch": "2.13.0", "python": "3.12.3"},
        "threads": 2,
        "seconds": 312.4,
        "data": {
            "name": "poker",
            "title": "Rendered poker hands",
            "licence": "Apache-2.0",
            "terms": "generated here",
            "synthetic": True,
            "rows": {"train": 6000, "validation": 1500, "test": 2500},
            "concepts": len(names),
            "columns": len(names),
            "groups": len(names),
            "task": {"kind": "classes", "names": classes, "unit": None},
            "majority": 0.167,
            "all_absent": 0.942308,
            "complete": 1.0,
        },
        "seeds": list(range(seeds)),
        "budget": 4,
        "interval": "95 %, percentile bootstrap of 1000 over test rows of the mean over seeds",
        "encoders": [
            {"name": "resnet on the task", "learns": "task", "features": {"name": "resnet", "options": {}}, "dim": 128}
            | {"seconds": 84.0, "shared": called[:2]},
            {
                "name": "resnet on concepts",
                "learns": "concepts",
                "features": {"name": "resnet", "options": {}},
                "dim": 128,
            }
            | {"seconds": 98.1, "shared": called[2:]},
        ],
        "metrics": copy.deepcopy(METRICS),
        "main": "accuracy",
        "rows": rows,
        "left_out": [{"method": "pcbm", "title": "Post-hoc CBM", "unmet": "texts for the concepts"}],
        "agreement": {
            "names": called,
            "matrix": [[1.0 if a == b else round(0.999 - abs(len(a) - len(b)) / 60, 4) for b in called] for a in called],
            "flagged": [{"a": called[-1], "b": called[0], "share": 0.997, "why": "both decide nearly every row right"}],
        },
        "replay": {
            "row": 12,
            "method": "cbm sequential",
            "truth": "three of a kind",
            "steps": [
                {
                    "concept": "ace of spades",
                    "before": 0.12,
                    "given": 1.0,
                    "answer_before": "pair",
                    "answer_after": "three of a kind",
                }
            ],
            "text": "ace of spades: 0.12 → given 1; answer: pair → three of a kind",
        },
    }


def evaluation() -> Result:
    """One model's evaluation: a row's fields beside data, metrics and main."""
    whole = compare(methods=5)
    kept = {key: whole[key] for key in ("data", "interval", "main", "metrics")}
    row = {
        k: v
        for k, v in whole["rows"][4].items()
        if k not in ("tuned", "examples", "seconds", "parameters", "nec_point", "encoder")
    }
    return {"schema": "isthmus.evaluation/1", **kept, **row}


def hostile() -> Result:
    """The comparison with attacks for names, texts, options and numbers; 120 concepts."""
    names = [*HOSTILE, *(f"{EVIL} {i}" for i in range(108))]
    made = compare(names=names, classes=[EVIL, *HOSTILE[1:6]])
    for i, row in enumerate(made["rows"]):
        row |= {"name": f"{HOSTILE[i]} {i}", "title": EVIL, "paper": EVIL, "notes": EVIL, "encoder": EVIL}
        row["options"] = {EVIL: EVIL}
        row["tuned"][0]["options"] = {EVIL: EVIL}
        row["history"][0] |= {"stage": EVIL, "loss": float("nan"), "validation": float("inf")}
        for each in row["examples"]:
            each |= {"id": EVIL, "text": HOSTILE[9] + EVIL, "image": "https://example.org/x.png"}
    for row in made["rows"][4:]:
        row["policies"] = {EVIL: copy.deepcopy(row["policies"]["kflip"]), HOSTILE[1]: none(EVIL)} if row["policies"] else {}
        row["asked"] = {EVIL: {"area": score(0.9), "harm": float("nan"), "sample": EVIL, "level": EVIL}}
        for point, k in zip(row["policies"].get(EVIL, []), (0, 1), strict=False):
            point |= {"k": k}
    made["data"]["class_level"] = EVIL
    made["rows"][3]["scores"] = {key: none(f"{EVIL} everything") for key in made["rows"][3]["scores"]}
    made["rows"][3] |= {"curves": {}, "concepts": [], "confusion": None, "examples": [], "history": [], "tuned": []}
    made["agreement"]["names"] = [row["name"] for row in made["rows"]]
    made["agreement"]["flagged"][0] |= {"a": made["rows"][-1]["name"], "b": made["rows"][0]["name"], "why": EVIL}
    made["data"] |= {"title": EVIL, "licence": EVIL, "terms": EVIL}
    made |= {"title": EVIL, "command": EVIL + "`", "commit": EVIL, "interval": EVIL, "versions": {EVIL: EVIL}}
    made["left_out"] = [{"method": EVIL, "title": EVIL, "unmet": EVIL}]
    made["encoders"][0] |= {"name": EVIL, "shared": [EVIL]}
    made["replay"] |= {"method": EVIL, "truth": EVIL, "text": EVIL}
    made["replay"]["steps"][0] |= {"concept": EVIL, "before": EVIL, "answer_after": EVIL}
    made["metrics"] = {key: each | {"title": each["title"] + EVIL, "text": EVIL} for key, each in METRICS.items()}
    return made


def value_task() -> Result:
    """A number to predict: r2, no classes, no probabilities, contributions of a linear head."""
    made = compare(methods=5)
    made["data"]["task"] = {"kind": "value", "names": ["length of stay"], "unit": "days"}
    made["data"] |= {"majority": None, "title": "Hospital stays", "synthetic": False}
    made |= {"main": "r2", "title": "stays", "replay": None, "agreement": {"names": [], "matrix": [], "flagged": []}}
    made["metrics"] |= {
        "r2": measure("R2", "task", "share of the target's variance that is explained") | {"low": None},
        "mae": measure("mean absolute error", "task", "mean distance", better="down", unit="target unit", high=None),
    }
    for row in made["rows"]:
        row["scores"]["r2"] = row["scores"].pop("accuracy")
        row["scores"]["mae"] = score(1 / row["scores"]["r2"]["value"], 0.2)
        row["confusion"] = None
        for each in row["examples"]:
            each |= {"truth": "12.3 days", "answer": "11.9 days", "right": False, "probabilities": []}
    return made


POLICIES = ("random", "ucp", "lcp", "ectp", "greedy", "static", "kflip", "random:group", "lcp:group")
SAMPLED = "300 rows and at most 10 questions"
BINARY = "it needs binary concepts only"


def asked(*, methods: int = 8) -> Result:
    """A comparison whose bottlenecks were asked by every policy: kflip does not fit the first, the last asks a sample."""
    made = compare(methods=methods)
    rows = [row for row in made["rows"] if row["curves"]]
    for i, row in enumerate(rows):
        row["policies"], row["asked"] = {}, {}
        for j, name in enumerate(POLICIES):
            if name == "kflip" and not i:
                row["policies"][name] = none(BINARY)
                continue
            budgets = (0, 1, 2) if name == "kflip" else (0, 1, 2, 3, 5, 8)
            points = [{"k": k, "share": k / 52, "cost": k, "accuracy": score(0.9 + k / 100 - j / 200)} for k in budgets]
            row["policies"][name] = points
            over = {"value": 0.03 - j / 200, "low": 0.02 - j / 200, "high": 0.04 - j / 200}
            row["asked"][name] = {
                "area": {"value": 0.93 - j / 200, "low": 0.9, "high": 0.95},
                "gain": 0.08,
                "k95": 5,
                "harm": 0.011 * (j + 1),
                "level": "group" if ":group" in name else "concept",
                "oracle": name in ("lcp", "greedy", "lcp:group"),
                "rows": 2500,
                "seconds": 0.2,
                **({} if name.startswith("random") else {"over_random": over}),
                **({"sample": SAMPLED} if row is rows[-1] and name == "ectp" else {}),
            }
    return made


@pytest.fixture
def build() -> dict[str, Callable[..., Result]]:
    """The builders by name: compare, asked, evaluation, hostile, value_task."""
    return {"compare": compare, "asked": asked, "evaluation": evaluation, "hostile": hostile, "value_task": value_task}
