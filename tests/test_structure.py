"""The shape of the project: what a reader must read, nothing dangerous, cards and docs complete."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import docs_pages
import import_time
import reading_cost

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "isthmus"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# Machine paths, and hosts of package registries, must stand nowhere: they are true on one machine, or for one day.
PLACES = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work|juice|mnt)/\w")
REGISTRIES = (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
HOSTS = re.compile("|".join(re.escape(".".join(parts)) for parts in REGISTRIES))
SUFFIXES = {".py", ".j2", ".md", ".toml", ".yml", ".json", ".html", ".css", ".js", ".txt", ""}


def hidden(path: Path) -> bool:
    """Caches of tools: below a folder whose name starts with a dot, .ci aside."""
    return any(part.startswith((".", "__pycache__")) and part != ".ci" for part in path.relative_to(ROOT).parts)


def texts() -> Iterator[Path]:
    """Every text file of the project, generated folders aside."""
    for place in ("src", "tests", "tools", "docs", "bench", "examples", "claims", ".ci"):
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and path.suffix in SUFFIXES and not hidden(path):
                yield path
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".DS_Store")


# reading cost


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose reading cost from ``methods/m.py`` is known by counting."""
    files = {
        "p/__init__.py": "'''Lazy.'''\n" + "X = {'a': 'p.a'}\n" * 4,
        "p/methods/__init__.py": "'''Doc only.'''\n",
        "p/methods/m.py": "from p.a import f\nfrom .. import b\nimport p.deep.c\nimport json\n",  # 4
        "p/methods/unrelated.py": "x = 1\n" * 100,
        "p/a.py": "def f():\n    from p.late import g\n    return g\n",  # 3
        "p/late.py": "from importlib import import_module\nimport_module('p.named').g(import_module('json'))\n",  # 2
        "p/named.py": "x = 1\n" * 50,
        "p/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.typed import T\n",  # 3
        "p/typed.py": "T = int\nU = int\n",  # 2
        "p/deep/__init__.py": "'''Code.'''\nfrom p.deep.d import y\n",  # 2
        "p/deep/c.py": "x = 1\n",  # 1
        "p/deep/d.py": "y = 1\n",  # 1
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_reading_cost_follows_every_import(package: Path) -> None:
    cost = reading_cost.reading_cost(package / "p/methods/m.py", package)
    found = {str(file.relative_to(package / "p")): lines for file, lines in cost.lines.items()}
    assert found == {
        "methods/m.py": 4,
        "a.py": 3,
        "b.py": 3,
        "late.py": 2,
        "typed.py": 2,
        "deep/__init__.py": 2,
        "deep/c.py": 1,
        "deep/d.py": 1,
    }
    assert cost.total == 18 and cost.lazy == 5 and cost.named == ("p.named",)


def test_a_top_init_that_imports_is_counted(package: Path) -> None:
    (package / "p/__init__.py").write_text("from p.methods import unrelated\n")
    cost = reading_cost.reading_cost(package / "p/methods/m.py", package)
    assert cost.lines[package / "p/__init__.py"] == 1 and cost.lines[package / "p/methods/unrelated.py"] == 100
    assert cost.lazy == 0


def test_reading_cost_budgets(package: Path) -> None:
    cost = reading_cost.reading_cost(package / "p/methods/m.py", package)
    assert cost.within(18, 8) and not cost.within(17, 8) and not cost.within(18, 7)


def test_reading_cost_of_the_joint_cbm() -> None:
    cost = reading_cost.reading_cost(reading_cost.START, SOURCE)
    names = {file.name for file in cost.lines}
    assert {"cbm.py", "train.py", "model.py", "space.py", "given.py"} <= names
    assert cost.within(), f"{cost.total} lines in {len(cost.lines)} files"


# import time

TRACE = """import time: self [us] | cumulative | imported package
import time:       500 |        500 |   torch._C
import time:      1000 |       1500 | torch
import time:       200 |        200 |     numpy
import time:      3000 |       3200 |   isthmus.space
import time:       100 |       3300 | isthmus
import time:       700 |        700 | atexit
"""


def test_import_time_is_what_comes_after_torch() -> None:
    own = import_time.added(TRACE)
    assert own == {"numpy": 200e-6, "isthmus.space": 3000e-6, "isthmus": 100e-6}


def test_import_time_needs_both() -> None:
    with pytest.raises(ValueError, match="expected 'torch'"):
        import_time.added(TRACE.replace("| torch\n", "| other\n"))


def test_importing_loads_nothing_heavy() -> None:
    """The seconds are a matter of the machine, and of ``make check``; the modules are not."""
    code = "import isthmus, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"transformers", "sklearn", "pandas", "scipy.stats", "huggingface_hub", "typer", "jinja2", "PIL"}
    assert "isthmus" in loaded and not heavy & set(loaded)


# files


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_says_what_it_is_and_fits_a_reader(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "the first line of a file says what it holds"


def test_no_machine_paths_and_no_registry_hosts() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if PLACES.search(line) or HOSTS.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_scan_for_places_sees_them() -> None:
    assert PLACES.search("open('" + "/".join(("", "home", "me", "x.csv")) + "')")
    assert not PLACES.search("/".join(("a", "work", "b ~", "home", "x")))
    assert HOSTS.search("https://" + ".".join(("files", "pythonhosted", "org")) + "/x")


# nothing dangerous

FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "torchvision", "timm"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "np.save", "numpy.save", "os.system"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """Imports and calls that run what a file says, or that break an install."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {called}"
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                if (word.arg, value) in {("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)}:
                    yield f"line {node.lineno}: {word.arg}={value}"
            continue
        else:
            continue
        for name in names:
            if name.split(".")[0] in FORBIDDEN_IMPORTS or name in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_that_runs_what_a_file_says(file: Path) -> None:
    assert not list(dangers(ast.parse(file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "eval(text)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "import torchvision.transforms",
    ],
)
def test_the_scan_for_dangers_sees_them(line: str) -> None:
    assert list(dangers(ast.parse(line)))
    assert not list(dangers(ast.parse("import torch\nmodel.eval()\nnp.load(path, allow_pickle=False)\nloads(text)")))


# direction: what import-linter cannot say


@pytest.mark.parametrize("folder", ["data/datasets", "data/worlds"])
def test_one_data_set_never_imports_another(folder: str) -> None:
    """Shared helpers have a name with an underscore, or register no data set."""
    files = [file for file in (PACKAGE / folder).glob("*.py") if file.name != "__init__.py"]
    sets = {file.stem for file in files if re.search(r"^@dataset\(", file.read_text(encoding="utf-8"), re.MULTILINE)}
    assert sets
    prefix = "isthmus." + folder.replace("/", ".") + "."
    for file in files:
        names = reading_cost.imported(ast.parse(file.read_text(encoding="utf-8")), file, SOURCE)
        reached = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
        assert not reached & sets, f"{file.stem} imports the data set {reached & sets}"


def test_the_design_page_shows_the_direction_that_is_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"\(?\w+\)?", layer) for layer in contracts[0]["layers"]]
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = page.split("## Direction of imports")[1].split("```")[1].strip()
    lines = [set(re.findall(r"\w+", line)) for line in block.splitlines()]
    assert len(lines) == len(layers)
    for line, layer in zip(lines, layers, strict=True):
        assert {name for name in layer if "(" not in name} <= line <= {name.strip("()") for name in layer}


def test_the_design_page_names_every_module() -> None:
    table = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("## Layout")[1].split("## Direction")[0]
    for place in PACKAGE.iterdir():
        if not place.name.startswith(("_", ".", "py.typed")):
            assert f"`{place.name}{'/' if place.is_dir() else ''}`" in table, place.name


# dependencies


def test_no_extra_brings_torchvision_or_timm_and_nothing_pins_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    constraints = (ROOT / "constraints.txt").read_text()
    assert not [line for line in [*wanted, *constraints.split()] if re.match(r"torchvision|timm\b", line)]
    assert [line for line in wanted if re.match(r"torch\b", line)] == ["torch>=2.6"]
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", constraints, re.MULTILINE)}
    named = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line).group()).lower() for line in wanted}  # type: ignore[union-attr]
    assert named - {"isthmus"} <= pinned, "a dependency has no line in constraints.txt"


def test_extras_that_errors_name_exist() -> None:
    """``require(module, "vision")`` promises ``pip install 'isthmus[vision]'``."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named: set[str] = set()
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "require" and len(node.args) > 1:
                named.add(ast.literal_eval(node.args[1]))
    assert named and named <= set(extras), f"no such extra: {named - set(extras)}"


# cards


def test_every_registered_method_has_a_whole_card() -> None:
    from isthmus import plugins, registry

    plugins.load_all()
    found = registry.methods()
    assert {"blackbox", "linear_probe", "random_concepts", "cbm", "cem", "sidechannel"} <= set(found)
    for name, method in found.items():
        card = method.card
        assert card.title and card.paper and card.family and card.tasks and card.kinds, name
        assert card.year == 0 or 1980 < card.year < 2100, name
        assert set(card.exempt) <= {3, 5, 7} and all(len(reason) > 20 for reason in card.exempt.values()), name
        assert all(method.options[option].default is not inspect.Parameter.empty for option in card.tune), name
        assert method.build.__doc__, f"{name}: the builder says what its options do"


# docs


def test_every_relative_link_leads_somewhere() -> None:
    pages = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:", target) and not (page.parent / target).exists() and not _generated(page, target):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def _generated(page: Path, target: str) -> bool:
    """Pages made from the cards when the site is built."""
    place = (page.parent / target).resolve()
    return place.is_relative_to(ROOT / "docs" / "methods")


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 80


def test_every_method_has_a_page_with_its_options_and_exemptions() -> None:
    from isthmus import plugins, registry

    plugins.load_all()
    index = docs_pages.index(registry.methods())
    for name, method in registry.methods().items():
        page = docs_pages.page(method)
        assert f"({name}.md)" in index and page.startswith(f"# {method.card.title}\n")
        assert all(f"\n| `{option}` |" in page for option in method.options), name
        assert all(reason in page for reason in method.card.exempt.values()), name


def test_what_is_written_about_a_method_by_hand_follows_its_card() -> None:
    from types import SimpleNamespace

    files = pytest.importorskip("mkdocs.structure.files")
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"), site_dir="site", use_directory_urls=False, plugins=SimpleNamespace())
    config.plugins._current_plugin = None
    made = docs_pages.on_files(files.Files([]), config)
    written = sorted(file.stem for file in (ROOT / "docs" / "methods").glob("*.md"))
    assert {"autoregressive", "realigned", "scbm"} <= set(written)
    for name in written:
        text = made.get_file_from_path(f"methods/{name}.md").content_string
        assert text.startswith("# ") and "## Options" in text
        assert text.endswith((ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8"))


# the rule about missing data


@pytest.fixture
def rule(request: pytest.FixtureRequest) -> object:
    """The conftest module of all tests, as pytest loaded it."""
    return next(p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "missing_data"))


def test_a_skip_for_missing_data_is_a_failure_where_the_data_should_be(rule, tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^data: tabular/x\.npz not found under ISTHMUS_DATA \(not set\)"):
        rule.data_file("tabular/x.npz", {})
    with pytest.raises(pytest.skip.Exception) as skipped:
        rule.data_file("tabular/x.npz", {"ISTHMUS_DATA": str(tmp_path)})
    reason = f"Skipped: {skipped.value}"
    assert rule.missing_data(reason, {"ISTHMUS_DATA": str(tmp_path)}) and not rule.missing_data(reason, {})
    assert not rule.missing_data("Skipped: needs a GPU", {"ISTHMUS_DATA": str(tmp_path)})
    (tmp_path / "x.npz").touch()
    assert rule.data_file("x.npz", {"ISTHMUS_DATA": str(tmp_path)}) == tmp_path / "x.npz"


def test_a_run_fails_when_data_is_missing_that_should_be_there(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_one.py").write_text("def test_x(isthmus_data):\n    isthmus_data('gone.npz')\n")
    (tmp_path / "test_two.py").write_text("import pytest\npytest.skip('data: gone', allow_module_level=True)\n")
    (tmp_path / "test_three.py").write_text("import pytest\ndef test_y():\n    pytest.skip('no GPU')\n")
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-q", "-c", "/dev/null", f"--rootdir={tmp_path}"]
    command += ["--continue-on-collection-errors", "-p", "no:cacheprovider", "-o", "addopts="]

    def run(**more: str) -> tuple[int, str]:
        clean = {k: v for k, v in os.environ.items() if k != "ISTHMUS_DATA" and not k.startswith("PYTEST_")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean | more, cwd=tmp_path)
        return done.returncode, done.stdout

    code, said = run(ISTHMUS_DATA=str(tmp_path))
    assert code == 1 and "1 skipped" in said and "1 failed" in said and "1 error" in said, said
    assert "ISTHMUS_DATA is set, so this must run, but: Skipped: data: gone.npz not found" in said
    code, said = run()
    assert code == 0 and "3 skipped" in said, said


# the page about adding a method


def test_the_method_of_the_documentation_keeps_the_laws(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    first = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    (tmp_path / "near.py").write_text(first)
    code = "from isthmus import plugins, testing\nprint(plugins.load_file('near.py'))\n"
    code += "testing.check_method('near', fresh=False)\nprint('holds')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["['near']", "holds"], done.stderr[-2000:]
