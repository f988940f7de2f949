"""``doctor``: is everything here that isthmus needs, does it import, and where do data and caches lie."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import typer

from isthmus import __version__
from isthmus.commands.console import Code, emit, one_line, say, table
from isthmus.commands.options import Json, Plugins
from isthmus.errors import IsthmusError

CORE = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "annotated-types": "annotated_types",
    "huggingface_hub": "huggingface_hub",
    "pillow": "PIL",
    "typer": "typer",
    "rich": "rich",
    "jinja2": "jinja2",
    "filelock": "filelock",
}
EXTRAS = {"vision": {"transformers": "transformers"}, "text": {"transformers": "transformers"},
          "data": {"pandas": "pandas", "pyarrow": "pyarrow"},
          "llm": {"pydantic-ai-slim": "pydantic_ai", "bm25s": "bm25s"}}  # fmt: skip
PATIENCE = 180  # seconds that one import may take
_IMPORT = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name); found[name] = None
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: ``broken`` makes the exit code 1, ``missing`` says how to get it."""

    what: str
    state: Literal["ok", "missing", "broken", "note"]
    text: str


def doctor(plugin: Plugins = None, as_json: Json = False) -> None:
    """Check versions, packages that do not import, the cache and the data; exit code 1 when something is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [finding for check in (_python, _packages, _torchvision, _torch) for finding in check()]
        if not any(f.what == "torch" and f.state == "broken" for f in found):
            found += [f for check in (lambda: _plugins(plugin or ()), _cache, _data) for f in check()]
        found += _offline()
    broken = [finding for finding in found if finding.state == "broken"]
    if as_json:
        emit({"schema": "isthmus.doctor/1", "broken": len(broken), "findings": [asdict(finding) for finding in found]})
    else:
        table(("what", "state", "details"), [(f.what, f.state, f.text) for f in found])
        say("all well" if not broken else f"broken: {', '.join(f.what for f in broken)}")
    if broken:
        raise typer.Exit(Code.FAILED)


def _python() -> list[Finding]:
    old = sys.version_info < (3, 11)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {sys.prefix}"
    return [
        Finding("isthmus", "ok", f"{__version__} in {Path(__file__).parents[1]}"),
        Finding("python", "broken" if old else "ok", f"{text}; isthmus needs 3.11 or later" if old else text),
    ]


def importing(modules: Sequence[str]) -> dict[str, str | None]:
    """Import modules in a process of its own: None, or the reason why it fails; a crash is a reason too."""
    try:
        done = subprocess.run([sys.executable, "-c", _IMPORT, *modules], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(modules, f"the import took more than {PATIENCE} s")
    try:
        found: dict[str, str | None] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        if len(modules) > 1:  # one of them ended the process: which?
            return {name: reason for module in modules for name, reason in importing([module]).items()}
        return dict.fromkeys(modules, f"the import ended the process with code {done.returncode}")
    return {name: None if reason is None else one_line(reason)[:160] for name, reason in found.items()}


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> list[Finding]:
    """Core packages must import; an extra that is not there is missing, one that does not import is broken."""
    extras = {d: m for packages in EXTRAS.values() for d, m in packages.items() if find_spec(m) is not None}
    with ThreadPoolExecutor(2) as pool:
        core, more = pool.map(importing, (list(CORE.values()), list(extras.values())))
    found: list[Finding] = []
    for distribution, module in CORE.items():
        version, reason = _installed(distribution), core[module]
        fix = f"pip install '{distribution}'" if version is None else f"pip install --force-reinstall '{distribution}'"
        found.append(
            Finding(distribution, "broken", f"{reason}: {fix}") if reason else Finding(distribution, "ok", version or "?")
        )
    for distribution in dict.fromkeys(d for packages in EXTRAS.values() for d in packages):
        owners = [extra for extra, packages in EXTRAS.items() if distribution in packages]
        line = f"pip install 'isthmus[{owners[0]}]'"
        module = extras.get(distribution)
        if module is None:
            found.append(Finding(distribution, "missing", f"needed for {' and '.join(owners)}: {line}"))
        elif more[module]:
            found.append(Finding(distribution, "broken", f"{more[module]}: {line} --force-reinstall"))
        else:
            found.append(Finding(distribution, "ok", f"{_installed(distribution) or '?'} (extra {', '.join(owners)})"))
    return found


def _torchvision() -> list[Finding]:
    """Nothing here uses it, but one built for another torch breaks every package that imports it."""
    if find_spec("torchvision") is None:
        return [Finding("torchvision", "ok", "not installed, and not needed")]
    version, reason = _installed("torchvision"), importing(["torchvision"])["torchvision"]
    if reason is None:
        return [Finding("torchvision", "ok", f"{version}, not used by isthmus")]
    return [
        Finding(
            "torchvision",
            "broken",
            f"{version} does not import ({reason}): pip uninstall torchvision; isthmus needs none",
        )
    ]


def _torch() -> list[Finding]:
    try:
        import torch
    except Exception:  # said above, with the reason
        return []
    devices = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
    return [Finding("torch threads", "note", f"{torch.get_num_threads()} (OMP_NUM_THREADS sets them), {devices}")]


def _plugins(files: Iterable[Path]) -> list[Finding]:
    from isthmus import plugins, registry

    try:
        plugins.load_all(files)
    except IsthmusError as error:
        return [Finding("methods", "broken", str(error))]
    found = metadata.entry_points(group="isthmus.methods")
    entries = sorted({entry.dist.name for entry in found if entry.dist is not None and entry.dist.name != "isthmus"})
    outside = f"; from other packages: {', '.join(entries)}" if entries else ""
    return [Finding("methods", "ok", f"{len(registry.methods())}{outside}")]


def _size(folder: Path) -> tuple[int, float]:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes) / 2**20


def _cache() -> list[Finding]:
    from isthmus.data.cache import default_folder

    folder = default_folder()
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        text = f"{folder}: cannot be written ({error.strerror}); set ISTHMUS_CACHE to a folder of yours"
        return [Finding("feature cache", "broken", text)]
    files, size = _size(folder) if folder.is_dir() else (0, 0.0)
    return [Finding("feature cache", "ok", f"{folder}: {files} files, {size:.1f} MiB; isthmus features clear empties it")]


def _data() -> list[Finding]:
    """Every real data set is read once from $ISTHMUS_DATA: there, not there, or damaged."""
    from isthmus.data.registry import datasets

    real = {name: d for name, d in datasets().items() if not d.synthetic}
    root = os.environ.get("ISTHMUS_DATA")
    if not root:
        return [
            Finding("ISTHMUS_DATA", "note", f"not set: {len(real)} real data sets need it, or path=; generated ones do not")
        ]
    if not Path(root).is_dir():
        return [Finding("ISTHMUS_DATA", "broken", f"{root}: expected a folder, found none; set it to the data folder")]
    states = {name: _reads(dataset.build) for name, dataset in real.items()}
    there = [name for name, reason in states.items() if reason is None]
    absent = [name for name, reason in states.items() if reason is not None and "found none" in reason]
    found = [Finding("ISTHMUS_DATA", "ok", f"{root}: {', '.join(there) or 'no data set'}")]
    if absent:
        found.append(Finding("data not there", "note", f"{', '.join(absent)}; isthmus data show NAME says where to get one"))
    bad = [name for name in states if name not in there and name not in absent]
    return found + [Finding(f"data {name}", "broken", str(states[name])) for name in bad]


def _reads(build: Callable[..., Any]) -> str | None:
    try:
        build()
    except Exception as error:
        return one_line(error)
    return None


def _offline() -> list[Finding]:
    flags = [f"{name}={os.environ[name]}" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    text = (
        f"{', '.join(flags)}: only weights already on disk are used" if flags else "no offline flag: weights may be downloaded"
    )
    home = os.environ.get("HF_HOME")
    return [Finding("Hugging Face", "note", text + (f"; HF_HOME={home}" if home else ""))]
