"""Every method that the data allows, on the same features, with the black box beside: the main job."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from isthmus import metrics, needs, registry
from isthmus.agreement import agreement
from isthmus.concepts.book import Book
from isthmus.corrections import Asked, asked, budgets_of
from isthmus.data.registry import load
from isthmus.data.table import Splits, replacing
from isthmus.encoders import TRAINING, Encoder, device_of, encoded, encoders, inside
from isthmus.errors import IsthmusError, OptionError, unknown
from isthmus.evaluate import INTERVAL, MAIN, Scored, describe_data, main_form, scored
from isthmus.examples import choose_rows, examples, replay
from isthmus.files import write, write_json
from isthmus.fitted import Fitted, Row, encoder_rows, row_of
from isthmus.model import ConceptModel
from isthmus.provenance import provenance
from isthmus.registry import Method
from isthmus.trace import Trace, run, trace
from isthmus.train import natural
from isthmus.worded import in_words, tied_suffix

Say = Callable[[str], None]
UNFINISHED = "unfinished.json"  # in the folder of a comparison until it is finished


@dataclass(eq=False)
class Comparison:
    """The result as plain data (schema ``isthmus.compare/1``), and the first seed's models by row name."""

    data: dict[str, Any]
    models: dict[str, ConceptModel] = field(default_factory=dict[str, ConceptModel])

    def table(self) -> Any:
        """A rich table for the terminal."""
        from isthmus.report import table

        return table(self.data)

    def save(self, folder: str | Path) -> Path:
        """Write comparison.json, table.md and report.html; returns the report's path."""
        from isthmus.report import html, markdown

        folder = Path(folder)
        write_json(folder / "comparison.json", self.data)
        write(folder / "table.md", markdown(self.data).encode())
        write(folder / "report.html", html(self.data).encode())
        return folder / "report.html"


def rows(
    names: Sequence[str] | None,
    data: Splits,
    common: dict[str, Any],
    aligned: dict[str, Any] | None = None,
    features: object = None,
) -> tuple[list[Row], list[dict[str, str]]]:
    """The rows that the data allows, black box first, and the methods left out with the unmet need.

    ``aligned``: the card of the map into a text space; what it has seen is said behind the names of methods that read it.
    ``features``: the module, where it is known.
    """
    labelled = data.train.c is not None
    found = registry.methods()
    asked = {name: registry.get(name.split(":")[0]) for name in names} if names else dict(found)
    if "blackbox" not in asked:
        asked = {"blackbox": found["blackbox"], **asked}
    for option in common:
        if not any(option in m.options for m in asked.values()):
            raise unknown("option of these methods", option, {o for m in asked.values() for o in m.options})
    kept: dict[str, Row] = {}
    left: list[dict[str, str]] = []
    for name, method in asked.items():
        unmet = needs.unmet(method, data.space, data.task, common, labelled=labelled, features=features)
        if unmet:
            left.append({"method": name, "title": method.card.title, "unmet": unmet})
            continue
        shared = method.checked({k: v for k, v in common.items() if k in method.options})
        for label, options in _variants(method, name.split(":")[1] if ":" in name else None, shared).items():
            row = f"{method.name} {label}".strip()
            own = {k: v for k, v in data.suggest.get("rows", {}).get(row, {}).items() if k not in shared}
            named = row + tied_suffix(method, aligned, data.task)
            kept[named] = Row(named, method, method.checked({**options, **own, **shared}))
    return sorted(kept.values(), key=lambda r: (r.method.name != "blackbox", r.method.card.family != "yardstick")), left


def _variants(method: Method, wanted: str | None, shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The method's variants by label, or the ``wanted`` one; those that an option shared by all rows contradicts are out."""
    every = method.card.variants or {"": {}}
    if wanted is not None and wanted not in every:
        raise unknown(f"variant of method {method.name!r}", wanted, every)
    asked = {label: options for label, options in every.items() if wanted in (None, label)}
    fits = {label: o for label, o in asked.items() if all(shared.get(k, v) == v for k, v in o.items())}
    if not fits:
        clash = {k: v for options in asked.values() for k, v in shared.items() if k in options}
        raise OptionError(f"method {method.name!r}: {clash} contradicts every row asked for ({', '.join(asked)}); drop one")
    return fits


def candidates(row: Row, budget: int) -> list[dict[str, Any]]:
    """The same small budget for every row: the defaults, then one tuned option changed at a time, then several."""
    grid = {k: v for k, v in row.method.card.tune.items() if k not in row.options}
    default = {k: row.method.options[k].default for k in grid}
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    others = [options for options in every if options != default]
    changed = lambda o: [o[k] != default[k] for k in grid]  # noqa: E731
    others.sort(key=lambda o: (sum(changed(o)), [not c for c in changed(o)]))
    return [default, *others][:budget]


def compare(
    data: Splits | str,
    *,
    methods: Sequence[str] | None = None,
    features: str | nn.Module | None = None,
    data_options: dict[str, Any] | None = None,
    seeds: Iterable[int] = (0, 1, 2),
    budget: int = 4,
    options: dict[str, Any] | None = None,
    feature_options: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    policies: Asked | None = None,
    words: Book | str | Path | None = None,
    text: str | None = None,
    unseen: Sequence[str] | float | None = None,
    device: str | torch.device | None = None,
    out: str | Path | None = None,
    command: str | None = None,
    say: Say | None = None,
) -> Comparison:
    """Fit, tune on validation, and score every method that the data allows; the test rows choose nothing.

    ``methods``: names, or 'cbm:sequential' for one variant; the black box is always beside. ``seeds``: at least three for a
    claim. ``budget``: settings each row may try on validation, with the first seed. ``options`` go to every method that has
    them, ``training`` (epochs, lr, batch_size) to encoders trained here. ``policies``: correction policies by name, with the
    budgets to score or without, or 'all'. ``words``: concepts in words instead of the data's own, on frozen features that
    share a space with texts (``worded``; ``text`` names another sentence encoder). ``unseen``: classes, or a share of them,
    kept from what ties images to those texts and then compared among themselves alone (zero-shot). ``out``: a folder for
    comparison.json, table.md and report.html; until they are there, unfinished.json has each finished row as it will stand in
    them. Data of ours brings the features, training and policies that suit it (``Splits.suggest``), where you name none. A row
    that cannot be fitted is left out with its reason (``left_out``); where that is the black box, or no other row is left, its
    error is raised. ``device``: where everything is computed ('cuda'; the CPU by default).
    """
    place, start, say = device_of(device, features), time.perf_counter(), say or (lambda text: None)
    with replacing(words is not None):
        splits = load(data, **(data_options or {})) if isinstance(data, str) else data
    known = splits.suggest
    policies = known.get("policies") if policies is None else policies
    if features is None and "features" in known:
        features, training = known["features"], {**known.get("training", {}), **(training or {})}
    allowed = {option for method in registry.methods().values() for option in method.options}
    options = {**{k: v for k, v in known.get("options", {}).items() if k in allowed}, **(options or {})}
    asked_for = [registry.get(name.split(":")[0]) for name in methods or registry.methods()]
    how = {"features": features, "feature_options": feature_options, "text": text, "training": training}
    told = in_words(splits, words, unseen, **how)
    if told is not None:
        splits, features, feature_options = told.splits, told.features, None
        options = {k: v for k, v in told.options.items() if any(k in m.options for m in asked_for)} | options
    seeds, budgets = _check(seeds, budget, training or {}), budgets_of(policies or {}, splits)
    todo, left = rows(methods, splits, options or {}, told and told.card["aligned"], features)
    labelled = splits.train.c is not None and len(splits.space) > 0
    learns = {row.name: row.method.card.encoder if labelled else "task" for row in todo}
    fitted = {row.name: Fitted(row, {}, []) for row in todo}
    built: list[dict[str, Encoder]] = []
    coded: list[dict[str, Splits]] = []  # splits with features as x, for each seed and encoder
    seen: dict[str, Splits] = {}
    for number, seed in enumerate(seeds):
        if not built or any(encoder.learns != "nothing" for encoder in built[0].values()):
            say(f"seed {seed}: features")
            wanted = set(learns.values())
            made = encoders(features, splits, wanted, seed=seed, options=feature_options, device=place, **(training or {}))
            distinct = {id(encoder): encoded(splits, encoder.module) for encoder in made.values()}
            seen = {name: distinct[id(encoder)] for name, encoder in made.items()}
        else:
            made = built[0]
        built.append(made)
        coded.append(seen)
        inputs = {row.name: (seen[learns[row.name]], made[learns[row.name]].module) for row in todo}
        note_fit = lambda: _unfinished(out, splits.name, seeds, fitted, ())  # noqa: E731
        left += _fit_all(fitted, inputs, seed, budget if number == 0 else 0, place, say, note_fit)
    note = lambda made: _unfinished(out, splits.name, seeds, fitted, made)  # noqa: E731
    scores, made_rows = _scored(fitted, learns, built, coded, budgets, say, note)
    result = {
        "schema": "isthmus.compare/1",
        "title": splits.name,
        **provenance(command or f"isthmus.compare({splits.name!r}, seeds={seeds}, budget={budget})"),
        "seconds": round(time.perf_counter() - start, 1),
        "data": describe_data(splits.test, splits.name, splits),
        "seeds": seeds,
        "budget": budget,
        "interval": INTERVAL,
        "encoders": encoder_rows(built[0], learns),
        "words": None if told is None else told.card | {"untied": [r.name for r in todo if "texts" in r.method.card.needs]},
        "main": MAIN[splits.task.kind],
        "published": splits.published or None,
        "rows": made_rows,
        "left_out": left,
        "agreement": agreement({name: done.traces for name, done in fitted.items()}),
    }
    used = {name for row in made_rows for name in row["scores"]}
    result["metrics"] = {name: m.described for name, m in metrics.METRICS.items() if name in used}
    gains = {name: found.scores["gain_all"].get("value", 0.0) for name, found in scores.items()}
    replayed = {n: (d.models[0], coded[0][learns[n]].test.x) for n, d in fitted.items()}
    result["replay"] = replay(replayed, splits.test, gains=gains)
    comparison = Comparison(result, {name: done.models[0] for name, done in fitted.items()})
    if out is not None:
        comparison.save(out)
        (Path(out) / UNFINISHED).unlink(missing_ok=True)
    return comparison


def _scored(
    fitted: dict[str, Fitted], learns: dict[str, str], built: list[dict[str, Encoder]], coded: list[dict[str, Splits]],
    budgets: dict[str, tuple[int, ...]], say: Say, note: Callable[[list[dict[str, Any]]], None],
) -> tuple[dict[str, Scored], list[dict[str, Any]]]:  # fmt: skip
    """Scores by row name, and the rows of the result; ``note`` is told each time that one is finished."""
    say("scores")
    scores: dict[str, Scored] = {}
    for name, done in fitted.items():
        scores[name] = scored(done.traces, scores.get("blackbox"))
    shown, made = choose_rows({name: done.traces[0] for name, done in fitted.items()}), list[dict[str, Any]]()
    for name, done in fitted.items():
        inputs = [each[learns[name]] for each in coded]
        made.append(_finished(done, scores[name], built[0][learns[name]], inputs, shown, budgets, say))
        note(made)
    return scores, made


def _unfinished(
    out: str | Path | None, title: str, seeds: list[int], fitted: dict[str, Fitted], made: Sequence[dict[str, Any]]
) -> None:
    """Write what there is so far, for a comparison that may be stopped: settings of what was fitted, rows that are finished."""
    if out is None:
        return
    begun = {n: {"seeds": seeds[: len(d.models)], "chosen": d.chosen, "tuned": d.tuned} for n, d in fitted.items() if d.models}
    found = {"schema": "isthmus.unfinished/1", "title": title, "seeds": seeds, "fitted": begun, "rows": list(made)}
    write_json(Path(out) / UNFINISHED, found)


def _check(seeds: Iterable[int], budget: int, training: dict[str, Any]) -> list[int]:
    """The seeds as a list; refuse, before anything is trained, what would fail at the end."""
    if isinstance(seeds, int | str):
        raise OptionError(f"compare: expected seeds as a list, such as range(3), got {seeds!r}")
    listed = [natural(seed) for seed in seeds]
    if not listed or len(set(listed)) < len(listed) or budget < 1:
        got = f"got {listed} and {budget}"
        raise OptionError(f"compare: expected at least one seed, each once, and a budget of at least 1, {got}")
    for name in training:
        if name not in TRAINING:
            raise unknown("training option", name, TRAINING)
    return listed


def _fit_all(
    fitted: dict[str, Fitted], inputs: Mapping[str, tuple[Splits, nn.Module]], seed: int, budget: int,
    place: torch.device, say: Say, note: Callable[[], None],
) -> list[dict[str, str]]:  # fmt: skip
    """Fit every row with one seed; those that cannot be fitted leave ``fitted`` and come back with their reasons."""
    left: list[dict[str, str]] = []
    for name, done in list(fitted.items()):
        say(f"seed {seed}: {name}")
        seen, encoder = inputs[name]
        try:
            _fit(done, seen, encoder, seed, budget, place)
        except IsthmusError as error:
            left.append(_failed(done.row, seed, error, fitted))
        else:
            done.models[-1].features = encoder
            note()
    return left


def _failed(row: Row, seed: int, error: IsthmusError, fitted: dict[str, Fitted]) -> dict[str, str]:
    """Take a row that could not be fitted out of ``fitted``; its error where it is the black box or the last beside it."""
    del fitted[row.name]
    if row.method.name == "blackbox" or all(done.row.method.name == "blackbox" for done in fitted.values()):
        raise error
    return {"method": row.name, "title": row.method.card.title, "unmet": "", "failed": f"seed {seed}: {error}"}


def _fit(done: Fitted, seen: Splits, module: nn.Module, seed: int, budget: int, place: torch.device) -> None:
    """Fit one row with one seed; with a ``budget``, choose its settings on validation first."""
    tries = candidates(done.row, budget) if budget else [done.chosen]
    best: tuple[float, ConceptModel, float] | None = None
    failed: IsthmusError | None = None
    for options in tries:
        start = time.perf_counter()
        try:
            plan = done.row.method.make(inside(module), seen.space, seen.task, seed=seed, **{**done.row.options, **options})
            plan.model.to(place)
            model = plan.fit(seen, seed)
        except IsthmusError as error:
            failed = error
            done.tuned.append({"options": options, "validation": None, "failed": str(error)})
            continue
        seconds = time.perf_counter() - start
        done.seconds += seconds
        score = _validation(model, seen) if budget else 0.0
        if budget:
            done.tuned.append({"options": options, "validation": round(score, 6)})
        if best is None or score > best[0]:
            best = (score, model, seconds)
            done.chosen = options
    if best is None:
        assert failed is not None
        raise failed
    done.models.append(best[1])
    done.traces.append(trace(best[1], seen.test, z=seen.test.x, seed=seed, seconds=best[2]))


def _validation(model: ConceptModel, seen: Splits) -> float:
    """The task's main score on validation."""
    rows = seen.validation
    assert rows.y is not None
    made = Trace(model.task, model.space, rows.y.numpy(), np.zeros(0), np.zeros(0), None)
    value = main_form(made, model.task.predict(run(model, rows.x).logits).numpy()).under(
        np.ones((1, len(rows)), dtype=np.float32)
    )[0]
    return float(value) if np.isfinite(value) else -np.inf


def _finished(
    done: Fitted,
    result: Scored,
    encoder: Encoder,
    inputs: list[Splits],
    shown: Any,
    budgets: dict[str, tuple[int, ...]],
    say: Say,
) -> dict[str, Any]:
    """A row of the result, with its examples and what policies are worth on it."""
    row = row_of(done, result, encoder)
    row["examples"] = examples(done.models[0], inputs[0].test, inputs[0].test.x, shown)
    row["policies"], row["asked"] = {}, {}
    if budgets and len(done.models[0].space):
        say(f"corrections: {done.row.name}")
        row["policies"], row["asked"] = asked(done.models, done.traces, inputs, budgets)
    return row
