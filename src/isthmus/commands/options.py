"""Options that several commands share, so that each is spelt once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="A Python file that registers methods; repeatable. It is run."),
]
DataName = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A data set, with options as in poker:cards=5,seed=1; or a CSV or Parquet file; or a folder of images.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="For a file or folder: the column to predict; several by comma."),
]
ConceptColumns = Annotated[
    str | None,
    typer.Option(
        "--concepts",
        metavar="COLUMNS|FILE",
        help="For a file or folder: concept columns by comma; leave out for none. Of fit and compare: or a list of concepts in "
        "words, words.txt or words.json.",
    ),
]
TableFile = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE", help="For a folder of images: the CSV or Parquet file of its labels."),
]
FeatureName = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="NAME",
        help="Features by name, with options as in mlp:dim=32; see isthmus features. Default by rows.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Where to compute: cpu (default), cuda, cuda:1; isthmus doctor lists them."),
]
Unseen = Annotated[
    list[str] | None,
    typer.Option(
        "--unseen",
        metavar="CLASS|SHARE",
        help="With words: a class whose rows do not reach the map into the text space; repeatable, or a share of the classes "
        "as in .5. Only these are then told from one another: zero-shot.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Report progress in lines where stderr is no terminal.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder written by isthmus fit.")]
