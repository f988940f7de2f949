"""Import time: what ``import isthmus`` adds to ``import torch``, by ``python -X importtime``, best of five.

``python tools/import_time.py`` prints it, and the packages that cost most; exit code 1 above the budget.
"""

from __future__ import annotations

import re
import subprocess
import sys

BUDGET = 0.3  # seconds
REPEATS = 5
FIRST = "import torch\nimport isthmus\nimport isthmus.api"
LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")


def measure(statement: str) -> str:
    """What ``python -X importtime`` writes while a fresh interpreter runs ``statement``."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def added(trace: str, package: str = "isthmus", after: str = "torch") -> dict[str, float]:
    """Own seconds of each module first imported after ``after`` was complete, up to the end of ``package``.

    Their sum is what ``import package`` adds to ``import after``. A module that ``after`` has loaded costs nothing.
    """
    own: dict[str, float] = {}
    begun = False
    for found in LINE.finditer(trace):
        microseconds, _, indent, name = found.groups()
        if begun:
            own[name] = int(microseconds) / 1e6
        begun = begun or (name == after and len(indent) == 1)
        if begun and name == package and len(indent) == 1:
            return own
    raise ValueError(f"trace: expected {after!r} and then {package!r} at the top level, got neither or one")


def main() -> int:
    """Print the time; 1 when it is above the budget."""
    runs = [added(measure("import torch\nimport isthmus")) for _ in range(REPEATS)]
    best = min(runs, key=lambda run: sum(run.values()))
    total = sum(best.values())
    verdict = "ok" if total <= BUDGET else "TOO SLOW"
    print(f"import isthmus adds {total:.3f} s to torch (best of {REPEATS}; at most {BUDGET}): {verdict}")
    packages: dict[str, float] = {}
    for name, seconds in best.items():
        packages[name.split(".")[0]] = packages.get(name.split(".")[0], 0.0) + seconds
    for name, seconds in sorted(packages.items(), key=lambda item: -item[1])[:3]:
        print(f"  {seconds:.3f} s  {name}")
    first = min(sum(added(measure(FIRST), "isthmus.api").values()) for _ in range(REPEATS))
    print(f"  {first:.3f} s  until the first call, isthmus.fit (loaded when it is named; not limited)")
    return 0 if total <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
