"""What the strip holds and uses: completeness, few concepts, and whether the answer follows them when they are taken out."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from isthmus import metrics
from isthmus.audit.section import Line, NotHere, Section, number, over, widened, written
from isthmus.audit.subject import Subject
from isthmus.evaluate import main_form
from isthmus.given import Given
from isthmus.metrics.core import Array, Mean, interval
from isthmus.metrics.disentanglement import completeness as eta
from isthmus.metrics.importance import effects, frequencies
from isthmus.model import feedforward
from isthmus.numerics import elastic_net

LEVELS = (5, 10, 15, 20, 25, 30)
STEPS = 10  # points of deletion and insertion
SLOW = 60  # rows of a model whose inference is not one pass
LEAST = 0.02  # probability by which two orders must differ before an answer is said to follow the concepts


def completeness(subject: Subject) -> Section:
    """The best predictor from concept values, as a share of the best from the features, beside random directions."""
    subject.need_strip()
    metric = metrics.METRICS[metrics.MAIN[subject.model.task.kind]]
    said = subject.told(subject.inputs("values"))
    features = subject.main(subject.told(subject.inputs("features")))
    chance = subject.main(subject.told(subject.inputs("random")))
    held, drawn = subject.measure.drawn(metric, main_form(subject.trace, said))
    whole, plain = max(features, subject.main(subject.trace.answers)), subject.constant()
    value, floor = eta(held, whole, plain), eta(chance, whole, plain)
    if not np.isfinite(value):
        raise NotHere("neither the model nor probes of its features tell the task better than one constant answer does")
    low, high = interval((drawn - plain) / (whole - plain))
    line = Line(
        key="completeness",
        title="completeness",
        value=number(value),
        unit="share",
        better="up",
        text="what the best predictor from the concepts gains over the commonest answer, as a share of what the features hold",
        low=number(low),
        high=number(high),
        control=number(floor),
        control_name="as many random directions of the features",
        n=subject.measure.n,
    )
    told = "more than random directions do" if low > floor else "not told apart from random directions"
    return Section(
        key="completeness",
        title="Completeness",
        question="Do the concepts hold what the task needs?",
        definition=f"{metric.title.capitalize()} of linear probes and boosted trees from concept values, validation's "
        "choice; what the features hold: the better of the same probes of them and of the model itself. Above 1 the "
        "concepts tell more than either does. The interval is over what the concepts tell, the divisor held.",
        lines=(line,),
        meaning=(
            f"Probes of the concepts tell more of the task than probes of the features and the model do ({value:.0%}), "
            if low > 1
            else f"The concepts hold all that the features hold of the task, and are not shown to hold more ({value:.0%}), "
            if value > 1
            else f"The concepts hold {value:.0%} of what the features hold of the task, "
        )
        + f"{told} ({floor:.0%}).",
    )


def sparsity(subject: Subject) -> Section:
    """NEC of the head, and how far a few concepts a class go, beside random directions."""
    subject.need_strip()
    subject.classes()
    measure, made, lines = subject.measure, subject.trace, list[Line]()
    weights = getattr(subject.model.head, "weights", None)
    if isinstance(weights, Tensor):
        each = (weights.detach().abs() > 1e-5).sum(1).double().cpu().numpy()
        value, low, high = over(each, seed=subject.seed)
        lines.append(
            Line(
                key="nec",
                title="NEC",
                value=number(value),
                unit=metrics.nec.unit,
                better="down",
                text=metrics.nec.text,
                low=number(low),
                high=number(high),
                control=float(weights.shape[1]),
                control_name="every concept",
                n=len(each),
            )
        )
    width = subject.part("test").values.shape[1]
    levels = [level for level in LEVELS if level <= width] or [width]
    own, random = (_path(subject, subject.inputs(what), levels) for what in ("values", "random"))
    forms = [[main_form(made, said) for said in each] for each in (own, random)]
    score = [[float(form.under(np.ones((1, measure.n)))[0]) for form in each] for each in forms]
    first, name = levels[0], "as many random directions"
    text = f"accuracy of a sparse head with {first} concepts a class on average"
    for key, title, at, words in (
        (f"accuracy@nec{first}", f"accuracy at NEC {first}", [0], text),
        ("anec", "ANEC", list(range(len(levels))), f"mean accuracy of sparse heads at NEC {', '.join(map(str, levels))}"),
    ):
        form, control = Mean(tuple(forms[0][i] for i in at)), float(np.mean([score[1][i] for i in at]))
        lines.append(measure.line(key, metrics.accuracy, form, title=title, control=control, control_name=name, text=words))
    found = lines[-2]
    told = "beat" if found.low is not None and found.low > (found.control or 0) else "are not shown to beat"
    rows = [[level, number(a), number(b)] for level, a, b in zip(levels, *score, strict=True)]
    return Section(
        key="sparsity",
        title="Few concepts",
        question="How far do a few concepts a class go?",
        definition="Heads of the elastic-net path (l1 ratio .99) on training rows' concept values, cut to NEC as VLG-CBM does.",
        lines=tuple(lines),
        meaning=f"With {first} concepts a class a sparse head reaches {score[0][0]:.3f}; these concepts {told} random "
        f"directions of the features ({score[1][0]:.3f}).",
        tables=({"title": "Accuracy by NEC", "columns": ["NEC", "concepts", "random directions"], "rows": rows},),
    )


def _path(subject: Subject, inputs: dict[str, Array], levels: list[int]) -> list[Array]:
    """(n,) test answers of the head cut to each level."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = subject.part("train").y
        heads = elastic_net.with_nec(inputs["train"], y, nec=levels, classes=subject.model.task.width)
    found: list[Array] = []
    for head, level in zip(heads, levels, strict=True):
        cut = elastic_net.truncate(head, level)
        found.append((inputs["test"] @ np.asarray(cut).T + np.asarray(head.bias)).argmax(1))
    return found


def faithfulness(subject: Subject) -> Section:
    """Deletion, insertion and CaCE: does the answer follow the concepts that are said to matter?"""
    subject.need_strip()
    if subject.model.task.kind == "value":
        raise NotHere("the task is a number: it has no probabilities")
    model, space = subject.model, subject.model.space
    test = subject.part("test")
    rows = subject.some(subject.looks if model.solver is feedforward else min(SLOW, subject.looks))
    z = test.z[rows].to(model.device)
    away = _neutral(subject).to(model.device)
    start = _decided(model.answer(z).logits, subject)
    order, how = _order(subject, rows, z, away, start)
    mixed = np.random.default_rng(subject.seed).permuted(np.tile(np.arange(space.count), (len(z), 1)), axis=1)
    counts = np.unique(np.linspace(0, space.count, min(space.count, STEPS) + 1).round().astype(int))
    measure, lines = subject.measure.of(rows), list[Line]()
    for key, metric, out in (("deletion", metrics.deletion, True), ("insertion", metrics.insertion, False)):
        own, chance = (_walk(subject, z, away, start, each, counts, out=out) for each in (order, mixed))
        lines.append(
            measure.line(key, metric, metric.weighted(own), control=float(metric(chance)), control_name="random order")
        )
    table, agree = _effects(subject, z)
    if agree is not None:
        lines.append(agree)
    down, up = lines[0], lines[1]
    sides = _apart(down.value, down.high, down.control, -1), _apart(up.value, up.low, up.control, 1)
    told = "follows" if all(sides) else "follows in part" if any(sides) else "is not shown to follow"
    return Section(
        key="faithfulness",
        title="Faithfulness",
        question="Does the answer follow the concepts that are said to matter?",
        definition=f"Concepts go to their neutral value (training's mean of what is read), the weightiest first ({how}), on "
        f"{len(z)} rows. 'Follows': at least {LEAST:g} from random order, its interval beside it, taken out and put in; in "
        "part: one of them. CaCE: the mean change of a class's probability from a concept set to 0 to the concept set to 1.",
        lines=tuple(lines),
        meaning=f"The answer {told} the concepts that are said to matter: taking them out first leaves "
        f"{written(down.value, '.2f')} of its probability, random order {written(down.control, '.2f')}; putting them in first "
        f"gives {written(up.value, '.2f')}, random order {written(up.control, '.2f')}.",
        tables=(table,) if table else (),
    )


def _apart(value: float | None, end: float | None, control: float | None, sign: int) -> bool:
    """Is a value ``LEAST`` or more above (``sign`` 1) or below (-1) its control, and the ``end`` of its interval beyond it?"""
    if value is None or end is None or control is None:
        return False
    return sign * (value - control) >= LEAST and sign * (end - control) > 0


def _neutral(subject: Subject) -> Tensor:
    """(1, K) the training mean of what is read, within what may be given; blocks sum to 1."""
    mean = torch.from_numpy(subject.part("train").values.mean(0)).float()
    space = subject.model.space
    mean = torch.where(space.continuous, mean, mean.clamp(0, 1))
    for index in space.blocks:
        mean[index] = mean[index] / mean[index].sum(-1, keepdim=True).clamp(min=1e-9)
    return mean[None]


def _decided(logits: Tensor, subject: Subject) -> Tensor:
    """(n,) the decided class, or (n, Y) the decided labels."""
    return logits.argmax(1) if subject.model.task.kind == "classes" else logits > 0


def _probability(logits: Tensor, decided: Tensor, subject: Subject) -> Array:
    """(n,) probability of what was decided; of several labels the mean."""
    p = subject.model.task.probabilities(logits)
    if subject.model.task.kind == "classes":
        return p.gather(1, decided[:, None])[:, 0].cpu().double().numpy()
    return torch.where(decided, p, 1 - p).mean(1).cpu().double().numpy()


@torch.no_grad()
def _order(subject: Subject, rows: Array, z: Tensor, away: Tensor, start: Tensor) -> tuple[Array, str]:
    """(n, M) concepts by falling weight: contributions where the head has them, else what taking one out alone changes."""
    model, space = subject.model, subject.model.space
    try:
        weight, _ = subject.importance(relative=True)
        each = np.stack([weight[rows][:, part].sum(1) for part in space.slices], 1)
        how = "by contribution"
    except NotHere:
        whole = _probability(model.answer(z).logits, start, subject)
        each = np.zeros((len(z), space.count))
        for m, part in enumerate(space.slices):
            mask = torch.zeros(1, len(space), dtype=torch.bool, device=z.device)
            mask[:, part] = True
            told = model.answer(z, Given(away.expand(len(z), -1), mask.expand(len(z), -1)))
            each[:, m] = whole - _probability(told.logits, start, subject)
        how = "by what taking it out alone changes"
    return np.argsort(-each, axis=1, kind="stable"), how


@torch.no_grad()
def _walk(subject: Subject, z: Tensor, away: Tensor, start: Tensor, order: Array, counts: Array, *, out: bool) -> Array:
    """(n, P) probability of the first answer with the first ``counts`` of ``order`` taken out, or with only those left in."""
    model, space = subject.model, subject.model.space
    rank = np.argsort(order, axis=1)
    found: list[Array] = []
    for count in counts:
        gone = torch.from_numpy(rank < count if out else rank >= count)
        mask = space.widen(gone).to(z.device)
        given = Given(away.expand(len(z), -1), mask) if bool(mask.any()) else None
        found.append(_probability(model.answer(z, given).logits, start, subject))
    return np.stack(found, 1)


@torch.no_grad()
def _effects(subject: Subject, z: Tensor) -> tuple[dict[str, object] | None, Line | None]:
    """The largest effects of setting a concept, and whether they have the sign that training rows say."""
    model, space, task = subject.model, subject.model.space, subject.model.task
    binary = [m for m, concept in enumerate(space.concepts) if concept.kind == "binary"]
    if task.kind != "classes" or not binary:
        return None, None
    found = np.zeros((len(binary), task.width))
    for at, m in enumerate(binary):
        part = space.slices[m]
        mask = torch.zeros(len(z), len(space), dtype=torch.bool, device=z.device)
        mask[:, part] = True
        on, off = (
            task.probabilities(model.answer(z, Given(torch.full_like(mask, value, dtype=torch.float), mask)).logits)
            for value in (1.0, 0.0)
        )
        found[at] = effects(on.cpu().double().numpy(), off.cpu().double().numpy())
    strongest = np.argsort(-np.abs(found).max(1), kind="stable")
    rows = [[space.names[binary[at]], task.names[int(np.abs(found[at]).argmax())],
             number(float(found[at][np.abs(found[at]).argmax()]))] for at in strongest[:8]]  # fmt: skip
    table: dict[str, object] = {"title": "Largest effects (CaCE)", "columns": ["concept", "class", "effect"], "rows": rows}
    train = subject.part("train")
    if train.c is None:
        return table, None
    columns = [space.slices[m].start for m in binary]
    rate = frequencies(train.c[:, columns], train.y, task.width)
    lead = rate - np.nanmean(train.c[:, columns], axis=0)[:, None]
    same = np.array([float(np.sign(found[at, y]) == np.sign(lead[at, y])) for at in strongest[:10]
                     for y in [int(np.abs(found[at]).argmax())] if np.isfinite(lead[at, y])])  # fmt: skip
    if not len(same):
        return table, None
    drawn = np.random.default_rng(subject.seed).choice(same, (1000, len(same))).mean(1)
    low, high = widened(*interval(drawn), len(same))
    text = (
        "share of the ten strongest effects that point where training rows do: up for a concept that the class has more often"
    )
    line = Line(
        key="cace_sign",
        title="effects that point the right way",
        value=number(float(same.mean())),
        unit="share",
        better="up",
        text=text,
        low=number(low),
        high=number(high),
        control=0.5,
        control_name="chance",
        n=len(same),
    )
    return table, line
