"""The page ``docs/cli.md``, written from the commands themselves: ``isthmus manual > docs/cli.md``."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer

from isthmus.commands.console import MEANING

HEAD = """# The command line

Written by `isthmus manual > docs/cli.md` from the commands themselves; a test holds it to them.

```
isthmus demo                                    # methods side by side on playing cards, with a report
isthmus list                                    # the methods; isthmus show cbm: one method's card and options
isthmus compare poker --seeds 3 --out result/   # everything that the data allows, and the black box
isthmus fit cbm poker --mode sequential --out run/
isthmus evaluate run/
isthmus intervene run/ --row 12 --set "ace of spades=1"
isthmus edit run/ prune "ace of spades" --why "a mark on the card" --out edited/
```

## Data, features and options as text

- A **data set** is a name, with its options behind a colon: `poker:cards=5,seed=1`. `isthmus show poker` lists them.
- Your **table** (CSV, TSV or Parquet) needs `--label COLUMN` and, for methods that learn concepts, `--concepts A,B,C`.
  All other columns are inputs. More behind the colon: `rows.csv:group=patient,split_column=fold,task=value`, or
  `rows.csv:features=review` for one column of texts; `rows.csv:facts=[site,age]` keeps columns that no model reads, for
  `isthmus audit --by site`; `rows.csv:caption=note` is a sentence about each row, which ties features to concepts in words.
  Empty cells of concepts are unknown labels.
- Your **folder of images** needs `--table FILE` too, with a column `image` of paths (`folder:image=file` names another); the
  other columns go behind the colon too: `folder:caption=note,group=patient`.
- A folder written by `isthmus data make` is read back without any of these.
- **Features** are named in the same way: `--features cnn:width=16`. `isthmus features` lists them.
- **Options of a method** are options of `isthmus fit METHOD`; `isthmus fit cbm --help` shows them. In `compare`,
  `--set head=mlp` goes to every method that has the option.
- Lists are written `64,32`, or `[64,32]` behind a colon; `none` is no value.

With `--json` a command prints one JSON document with a `schema` on stdout and everything else on stderr. NaN is `null`.
An error is one line on stderr: what was expected, what came, what to do. `--debug`, anywhere, shows the traceback.
"""

CLAIMS = """
A script in `claims/` prints a JSON object as its last line of output, with `claim` (a sentence), `number` (what was
measured) and `verdict`; it is run with this checkout's `src` on the path.
"""


def manual(ctx: typer.Context) -> None:
    """Print the page of all commands as Markdown."""
    print(page(ctx.find_root().command), end="")


def page(root: Any) -> str:
    """The whole page as Markdown; ``root`` is the group of all commands."""
    parts = [HEAD, _codes()]
    for name in sorted(name for name, command in root.commands.items() if not command.hidden):
        parts.append(_command(f"isthmus {name}", root.commands[name]))
        parts += [CLAIMS] if name == "claims" else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip() + "\n"


def _codes() -> str:
    rows = "\n".join(f"| {code.value} | {text} |" for code, text in MEANING.items())
    return f"## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}\n"


def _command(path: str, command: Any) -> str:
    about = _plain(inspect.cleandoc(command.help or ""))
    parts = [f"## `{path}`" if path.count(" ") == 1 else f"### `{path}`", "", about, ""]
    if getattr(command, "commands", None):
        parts += [_command(f"{path} {name}", each) for name, each in command.commands.items()]
        return "\n".join(parts)
    rows = [_row(each) for each in command.params if getattr(each, "help", None) and each.name != "help"]
    if rows:
        parts += ["| argument or option | default | what |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def _row(parameter: Any) -> str:
    shown = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "option":
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        shown = names if parameter.is_flag else f"{names} {parameter.metavar or 'N'}"
    default = parameter.default
    default = "" if callable(default) or default is None or default is False else f"`{default}`"
    if isinstance(getattr(parameter, "show_default", None), str):
        default = f"`{parameter.show_default}`"
    default = "required" if parameter.required else default
    cell = shown.replace("|", "\\|")
    return f"| `{cell}` | {default} | {_plain(parameter.help)} |"


def _plain(text: str) -> str:
    """Help without the terminal's markup; a bar would end a cell."""
    return re.sub(r"\[/?(bold)?\]", "`", text).replace("|", "\\|")
