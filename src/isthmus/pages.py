"""Reports as files: from a comparison, or from one model and its data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from isthmus.audit import audit
from isthmus.compare import Comparison
from isthmus.data.table import Splits, Table
from isthmus.errors import DataError
from isthmus.evaluate import Evaluation, evaluate
from isthmus.examples import choose_rows, examples
from isthmus.files import write, write_json
from isthmus.model import ConceptModel
from isthmus.provenance import provenance
from isthmus.trace import trace
from isthmus.train import encode


def report(
    what: ConceptModel | Comparison | Evaluation, data: Splits | Table | None = None, path: str | Path = "report.html"
) -> Path:
    """Write one self-contained page: of a comparison, or of a model scored on ``data`` (its test rows); returns the path."""
    from isthmus.report import html

    if isinstance(what, ConceptModel):
        if data is None:
            raise DataError("report: expected data to score the model on, got none; pass report(model, data)")
        what = evaluation_with_examples(what, data)
    path = Path(path)
    write(path, html(what.data).encode())
    return path


def evaluation_with_examples(model: ConceptModel, data: Splits | Table) -> Evaluation:
    """An evaluation that also shows rows and says how it was made."""
    table = data.test if isinstance(data, Splits) else data
    result = evaluate(model, table, name=data.name if isinstance(data, Splits) else "data")
    z = encode(model.features, table, model.device)
    shown = choose_rows({"model": trace(model, table, z=z, most=3)})
    result.data["examples"] = examples(model, table, z, shown)
    result.data.update(provenance("isthmus report"))
    result.data["title"] = result.data["data"]["name"]
    return result


def audited(
    comparison: Comparison, data: Splits, folder: str | Path, *, say: Callable[[str], None] | None = None
) -> list[Path]:
    """Audit the first seed's model of every row, write ``audits/NAME.html`` and ``.json`` below ``folder``, and link to them.

    The comparison's own files are written again, with the links. ``data``: the splits that were compared, with their inputs.
    """
    from isthmus.report import html

    folder, pages = Path(folder), list[Path]()
    for row in comparison.data["rows"]:
        name = row["name"]
        if say is not None:
            say(f"audit: {name}")
        made = audit(comparison.models[name], data, name=name)
        made.data["command"] = f"{comparison.data['command']}, then of row {name}: {made.data['command']}"
        place = f"audits/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'row'}.html"
        write(folder / place, html(made.data).encode())
        write_json((folder / place).with_suffix(".json"), made.data)
        row["audit"] = place
        pages.append(folder / place)
    comparison.save(folder)
    return pages
