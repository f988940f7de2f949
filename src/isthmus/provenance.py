"""Who made a result: time, command, commit, versions, threads."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def provenance(command: str) -> dict[str, Any]:
    """Who made a result: time, command, commit of the working tree, versions, threads."""
    here = Path(__file__).resolve().parent
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    commit = None
    try:
        if git("rev-parse", "--show-toplevel") == str(here.parents[1]):  # a checkout of ours, not one we are installed in
            commit = git("describe", "--always", "--dirty", "--abbrev=9") or None
    except (OSError, subprocess.TimeoutExpired):
        pass
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit,
        "command": command,
        "versions": {
            "isthmus": metadata.version("isthmus"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }
