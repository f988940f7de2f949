"""The answer in words: which bottleneck, what it costs, and how sure these rows make us."""

from __future__ import annotations

import re

from isthmus.report.clean import records, texts
from isthmus.report.numbers import listed, number, percent, seconds
from isthmus.report.page import Page, Row
from isthmus.report.svg import Markup, el, join


def strong(text: object) -> Markup:
    """A name or number that the eye should find."""
    return el("strong", text)


def summary(page: Page) -> list[Markup]:
    """The answer in sentences, the first one leading; no line breaks within an interval."""
    said = _one(page) if page.single else _several(page)
    return [Markup(re.sub(r"(\[[^\[\]\s]+,) (?=[^\[\]\s]+\])", "\\1\u00a0", each)) for each in said]


def overlapping(page: Page, best: Row) -> list[Row]:
    """The bottlenecks whose intervals overlap that of ``best``."""
    a = best.main
    if a.low is None or a.high is None:
        return []
    found: list[Row] = []
    for row in page.bottlenecks:
        low, high = row.main.low, row.main.high
        if row is not best and low is not None and high is not None and low <= a.high and high >= a.low:
            found.append(row)
    return found


ALIKE = 1.5  # times to fit within this factor, of one run, are not told apart


def cheapest(page: Page) -> list[Row]:
    """The sealed bottlenecks that fit in the least time, the first in front, with those whose time is not told apart."""
    known = [row for row in page.bottlenecks if row.sealed and row.main.value is not None and fit_seconds(row) is not None]
    known.sort(key=lambda row: fit_seconds(row) or 0.0)
    return [row for row in known if (fit_seconds(row) or 0.0) <= ALIKE * (fit_seconds(known[0]) or 0.0)]


def fit_seconds(row: Row) -> float | None:
    """Seconds to fit, encoder not counted."""
    return row.scores["fit_seconds"].value if "fit_seconds" in row.scores else None


def _several(page: Page) -> list[Markup]:
    best = page.best(page.bottlenecks)
    if best is None:
        lead = "No bottleneck could be scored." if page.bottlenecks else "No bottleneck is among these methods."
        black = "" if page.black is None else f" The black box reaches {page.black.main.both}."
        return [each for each in (join([lead, black]), _refits(page)) if each is not None]
    said = [_lead(page, best), _encoders(page, best), _open(best), _best_sealed(page, best), _order(page, best)]
    said += [_harm(page), _cheap(page, best), _control(page, best), _refits(page)]
    return [each for each in said if each is not None]


def _lead(page: Page, best: Row) -> Markup:
    many = len([row for row in page.bottlenecks if row.main.value is not None])
    of = f"Of {many} bottlenecks, " if many > 1 else "The only bottleneck here, "
    does = " does best: " if many > 1 else ", has "
    first = [of, strong(best.name), does, page.main.title, " ", strong(best.main.text), " ", best.main.interval, ". "]
    if page.black is None:
        return join([*first, "No black box stands beside it, so what the strip costs is not known."])
    then = ["The black box reaches ", strong(page.black.main.text), " ", page.black.main.interval, ". "]
    return join([*first, *then, _cost(page, best)])


def _cost(page: Page, best: Row) -> Markup:
    """The paired difference in words; an interval that holds zero is called open."""
    gap = best.main.difference
    if gap is None:
        return join(["Their difference was not measured row by row."])
    value, low, high = gap
    worse = (value < 0) == (page.main.better == "up")
    size, rows = page.main.show(abs(value)), f"{page.test_rows:,} test rows" if page.test_rows else "these rows"
    if low is None or high is None:
        return join([f"The difference is {best.main.gap}; it has no interval."])
    if low <= 0 <= high:
        return join(["The difference, ", strong(best.main.gap), f", is too small to tell from none on {rows}."])
    if worse:
        return join(["So the strip costs ", strong(size), f" (paired difference {best.main.gap})."])
    return join(["It does better by ", strong(size), f" (paired difference {best.main.gap})."])


def _order(page: Page, best: Row) -> Markup | None:
    near = overlapping(page, best)
    if not near:
        return None
    names = listed([row.name for row in near])
    verb = "has an interval that overlaps" if len(near) == 1 else "have intervals that overlap"
    return join(
        [strong(names), f" {verb} with that of {best.name}: take their order as open, and the best as flattered by the choice."]
    )


def _encoders(page: Page, best: Row) -> Markup | None:
    """Say so where the best bottleneck and the black box read features that were taught different things."""
    taught = {str(encoder.get("name")): encoder.get("learns") for encoder in records(page.data.get("encoders"))}
    if page.black is None or taught.get(best.encoder) == taught.get(page.black.encoder):
        return None
    words = {"concepts": "the concept labels", "task": "the task alone", "nothing": "other data"}
    mine, other = (words.get(str(taught.get(row.encoder)), "something else") for row in (best, page.black))
    said = f" from an encoder that learnt {mine}, the black box from one that learnt {other}; their difference holds"
    name = strong(best.name)
    return join(["The two read different features: ", name, said, " what the labels taught the encoder, not the strip alone."])


def _harm(page: Page) -> Markup | None:
    """Bottlenecks whose score falls when every concept is corrected."""
    fallen = [each for each in (_fallen(row, page) for row in page.bottlenecks) if each is not None]
    if not fallen:
        return None
    why = "as where a head has learnt to read more in the probabilities than the concepts mean (leakage)"
    return join([strong("Corrections harm"), f" {listed(fallen)} when every concept is given, {why}."])


def _fallen(row: Row, page: Page) -> str | None:
    """From what to what the score falls; None where it does not fall beyond chance."""
    gain, sign = row.scores.get("gain_all"), 1 if page.main.better == "up" else -1
    if gain is None or gain.value is None or gain.low is None or gain.high is None or row.main.value is None:
        return None
    worse = max(sign * gain.low, sign * gain.high) < 0
    return f"{row.name} from {row.main.text} to {page.main.show(row.main.value + gain.value)}" if worse else None


def _cheap(page: Page, best: Row) -> Markup | None:
    rows = cheapest(page)
    if not rows:
        return join(["No sealed bottleneck is among the methods: in each of them x can reach the answer beside the strip."])
    if len(rows) > 1:
        times = f"{seconds(fit_seconds(rows[0]))} to {seconds(fit_seconds(rows[-1]))}"
        cost = f": {times} to fit, not told apart by one run" + _encoder_seconds(page, rows[0])
        return join(["The cheapest sealed ones are ", strong(listed([row.name for row in rows])), cost, "."])
    row = rows[0]
    named = row is best or row is page.best([each for each in page.bottlenecks if each.sealed])
    cost = f": {seconds(fit_seconds(row))} to fit" + _encoder_seconds(page, row)
    score = "." if named else f"; {page.main.title} {row.main.both}."
    return join(["The cheapest sealed one is ", strong(row.name), cost, score])


def _encoder_seconds(page: Page, row: Row) -> str:
    for encoder in records(page.data.get("encoders")):
        if encoder.get("name") == row.encoder and isinstance(encoder.get("seconds"), int | float) and encoder["seconds"]:
            many = len(texts(encoder.get("shared")))
            return f", after {seconds(encoder['seconds'])} for its encoder" + (
                f", which {many} methods share" if many > 1 else ""
            )
    return ""


def _open(best: Row) -> Markup | None:
    bypass = best.scores.get("bypass")
    if best.sealed is not False:
        return None
    share = ""
    if bypass is not None and bypass.value is not None:
        share = f" (with every concept held, another x changes {percent(bypass.value)} of the decisions)"
    return join([strong(f"{best.name} is not sealed"), f": {best.leak}{share}."])


def _best_sealed(page: Page, best: Row) -> Markup | None:
    """Where the best one leaks: the best one that does not."""
    row = page.best([row for row in page.bottlenecks if row.sealed])
    if row is None or row is best:
        return None
    gap = f"; to the black box {row.main.gap}" if row.main.gap else ""
    return join(["The best sealed one is ", strong(row.name), f": {row.main.both}{gap}."])


def _control(page: Page, best: Row) -> Markup | None:
    """Read the best bottleneck against concepts that mean nothing."""
    rows = [row for row in page.rows if row.control and row.main.value is not None]
    control = page.best(rows)
    if control is None or control.main.value is None or best.main.value is None:
        return None
    up = page.main.better == "up"
    edge, mine = (control.main.high, best.main.low) if up else (control.main.low, best.main.high)
    clear = edge is not None and mine is not None and (mine > edge if up else mine < edge)
    text = f"The control, {control.name} (as many directions that mean nothing), reaches {control.main.both}"
    end = ": clearly worse." if clear else ": not clearly worse, so by score alone the named concepts are not shown to matter."
    return join([text, end])


def _refits(page: Page) -> Markup | None:
    if len(page.seeds) == 1:
        return join([strong("One seed"), ": how far another training run would move these numbers was not measured."])
    return None


def _one(page: Page) -> list[Markup]:
    row = page.rows[0]
    rows = f" on {page.test_rows:,} rows" if page.test_rows else ""
    lead = [strong(row.title), " has ", page.main.title, " ", strong(row.main.text), f" {row.main.interval}{rows}."]
    if page.majority is not None and page.main.key == "accuracy":
        lead.append(f" Answering the commonest class every time has {number(page.majority)}.")
    return [each for each in (join(lead), _read(page, row), _gain(row), _passes(row)) if each is not None]


def _read(page: Page, row: Row) -> Markup | None:
    f1, right = row.scores.get("concept_macro_f1"), row.scores.get("concept_all_right")
    if f1 is None or f1.value is None:
        return None
    beside = "" if page.absent is None else f" (the commonest answer for each gets {number(page.absent)} of the labels right)"
    whole = (
        f"; all of them are right on {percent(right.value)} of the rows"
        if right is not None and right.value is not None
        else ""
    )
    return join(["It reads the concepts with macro F1 ", strong(f1.text), f" {f1.interval}{whole}{beside}."])


def _gain(row: Row) -> Markup | None:
    gain = row.scores.get("gain_all")
    if gain is None or gain.value is None:
        return None
    k95 = row.scores.get("k95")
    soon = f"; 95 % of that with {percent(k95.value)} of them" if k95 is not None and k95.value is not None else ""
    return join(["Correcting every concept moves the score by ", strong(gain.measure.show(gain.value, sign=True)), f"{soon}."])


def _passes(row: Row) -> Markup | None:
    if row.sealed:
        return join([strong("Sealed"), ": nothing but the concepts reaches the answer."])
    return _open(row)
