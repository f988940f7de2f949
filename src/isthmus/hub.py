"""Saved models: ``card.json``, ``space.json``, ``history.json``, ``weights.safetensors`` and a SHA-256 manifest.

Nothing is pickled; the manifest is checked on load; a save is whole or leaves what was there before.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isthmus import registry
from isthmus.errors import DataError, IntegrityError, IsthmusError, OptionError
from isthmus.files import digest, write_json
from isthmus.interventions import chain
from isthmus.model import ConceptModel
from isthmus.registry import Method
from isthmus.space import ConceptSpace, Task

FORMAT = 1
FILES = ("card.json", "space.json", "history.json", "weights.safetensors")
MANIFEST = "manifest.json"
VECTORS = "space.vectors"  # among the weights: what the texts of the concepts were embedded to


def save(model: ConceptModel, folder: str | Path, *, extra: dict[str, Any] | None = None) -> Path:
    """Write a fitted model to ``folder`` (made or replaced as a whole). ``extra`` goes into the card (JSON values).

    Raises ``DataError`` when ``folder`` exists and is not a saved model, or holds other files beside one: nothing of yours is
    overwritten or deleted; and when an edited model was changed since its last edit.
    """
    from safetensors.torch import save_file

    if reason := chain.broken(model):
        raise DataError(f"save: history, {reason}; it could not be loaded: change an edited model by isthmus.edit alone")
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).exists() and (folder.is_file() or any(folder.iterdir())):
        raise DataError(f"{folder}: expected a new folder or a saved model, got other files; choose another place")
    stray = sorted({each.name for each in folder.iterdir()} - {*FILES, MANIFEST}) if folder.is_dir() else []
    if stray:
        raise DataError(f"{folder}: holds {stray[0]!r} beside a saved model, which replacing it would delete; move it first")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another place") from error
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        if model.space.vectors is not None:
            weights[VECTORS] = model.space.vectors.detach().cpu().contiguous().clone()
        save_file(weights, fresh / "weights.safetensors")
        (fresh / "weights.safetensors").chmod(0o644)
        write_json(fresh / "card.json", describe(model) | {"extra": extra or {}})
        (fresh / "space.json").write_text(model.space.to_json(), encoding="utf-8")
        write_json(fresh / "history.json", model.history)
        write_json(fresh / MANIFEST, {name: digest(fresh / name) for name in FILES})
        fresh.chmod(0o755)
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def describe(model: ConceptModel) -> dict[str, Any]:
    """What a model's card says: format, versions, method with options and seed, features, task, number of concepts."""
    if not model.origin:
        raise OptionError("save: expected a model built by a registered method, got one put together by hand; register it")
    recipe = getattr(model.features, "recipe", None)
    options = {name: value for name, value in model.origin["options"].items() if _plain(value)}
    method = registry.get(model.origin["method"])
    return {
        "format": FORMAT,
        "isthmus": metadata.version("isthmus"),
        "torch": str(torch.__version__),
        "method": method.name,
        "paper": method.card.paper,
        "sealed": 5 not in exemptions(method, model.origin["options"]),
        "notes": method.card.notes,
        "options": options,
        "seed": model.origin["seed"],
        "features": None if recipe is None else {"name": recipe.name, "options": dict(recipe.options)},
        "task": asdict(model.task),
        "concepts": model.space.count,
        "columns": len(model.space),
    }


def exemptions(method: Method, options: dict[str, Any]) -> dict[int, str]:
    """The laws that a row is exempt from: its method's, and those of the method it is put on (option ``base``)."""
    base = registry.methods().get(options.get("base", ""))
    return {**(base.card.exempt if base else {}), **method.card.exempt}


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _swap(fresh: Path, folder: Path) -> None:
    """Put ``fresh`` where ``folder`` is; a reader finds the old or the new one (see ``_recover``)."""
    old = folder.parent / f".{folder.name}.old"
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Undo a save that was killed between its two renames."""
    old = folder.parent / f".{folder.name}.old"
    if not folder.exists() and (old / MANIFEST).exists():
        os.replace(old, folder)


def verify(folder: Path) -> None:
    """Check every file against the manifest; the error names the first that is missing or changed."""
    _recover(folder)
    if not (folder / MANIFEST).is_file():
        raise IntegrityError(f"{folder}: expected a saved model ({MANIFEST} and {', '.join(FILES)}), found none")
    listed = _json(folder / MANIFEST)
    if not isinstance(listed, dict) or set(listed) != set(FILES):
        raise IntegrityError(f"{folder / MANIFEST}: expected the SHA-256 of {', '.join(FILES)}; copy the model again")
    for name in FILES:
        if not (folder / name).is_file():
            raise IntegrityError(f"{folder / name}: listed in the manifest, but missing; copy the model again")
        if digest(folder / name) != listed[name]:
            raise IntegrityError(f"{folder / name}: changed or damaged since it was saved (SHA-256); copy the model again")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: expected JSON, got {error}; copy the model again") from error


def load(folder: str | Path, *, features: nn.Module | None = None) -> ConceptModel:
    """Read a saved model: the builder is called with the saved space, resources None, then the weights are loaded.

    ``features`` is needed only where the model was built on a module of your own. No network, no pickle. The chain of edits is
    checked too (``isthmus.interventions.chain`` says what that shows and what it cannot): ``IntegrityError`` names the entry.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from isthmus.features import Recipe, rebuild

    folder = Path(folder)
    verify(folder)
    card, rows = _json(folder / "card.json"), (folder / "space.json").read_text(encoding="utf-8")
    try:
        if card["format"] > FORMAT:
            raise IntegrityError(f"{folder}: written by a newer isthmus ({card['isthmus']}); upgrade to read it")
        space, task = ConceptSpace.from_json(rows), Task(**card["task"])
        recipe, method, options, seed = card["features"], card["method"], card["options"], card["seed"]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, IsthmusError):
            raise
        raise IntegrityError(f"{folder / 'card.json'}: expected a model card, got {error!r}") from error
    if features is None:
        if recipe is None:
            raise OptionError(f"{folder}: built on features of your own; pass load(folder, features=...)")
        features = rebuild(Recipe(recipe["name"], recipe["options"]))
    try:
        weights = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise IntegrityError(f"{folder / 'weights.safetensors'}: expected tensors ({error}); copy the model again") from error
    if VECTORS in weights:
        space = replace(space, vectors=weights.pop(VECTORS))
    model = registry.get(method).make(features, space, task, seed=seed, **options).model
    if model.space != space and len(model.space) == len(space):
        for part in (model, model.bottleneck, model.head):
            if hasattr(part, "space"):
                setattr(part, "space", space)  # noqa: B010
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).replace("\n", " ")[:160]
        raise IntegrityError(f"{folder}: the weights do not fit method {method!r} ({reason})") from error
    _remember(model, folder / "history.json")
    return model.eval().requires_grad_(False)


def _remember(model: ConceptModel, path: Path) -> None:
    """Give a model its history; a chain of edits that does not end at this model is refused."""
    model.history = _json(path)
    if reason := chain.broken(model):
        raise IntegrityError(f"{path}: {reason}; copy the model again from where you trust it")


def card(folder: str | Path) -> dict[str, Any]:
    """The card of a saved model, checked against the manifest."""
    verify(Path(folder))
    return _json(Path(folder) / "card.json")


def save_pretrained(model: ConceptModel, folder: str | Path) -> Path:
    """``save`` with a model card ``README.md`` beside it, as model hubs show."""
    path = save(model, folder)
    told = describe(model)
    concepts = "\n".join(f"- {name}" for name in model.space.names[:200])
    (path / "README.md").write_text(
        f"---\nlibrary_name: isthmus\ntags: [concept-bottleneck, {told['method']}]\n---\n\n"
        f"# {told['method']} on {told['concepts']} concepts\n\n{told['paper']}\n\n"
        f"Predicts: {', '.join(model.task.names[:50])}\n\n"
        f'```python\nimport isthmus as im\nmodel = im.from_pretrained("{path.name}")\n```\n\n## Concepts\n\n{concepts}\n'
    )
    return path


def from_pretrained(name: str | Path, *, revision: str | None = None, features: nn.Module | None = None) -> ConceptModel:
    """A model from a local folder, else from the model hub by repository name (needs a network, or its cache)."""
    if Path(name).exists() or not isinstance(name, str) or name.count("/") != 1:
        return load(name, features=features)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, revision=revision, allow_patterns=[*FILES, MANIFEST, "README.md"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).split("\n")[0][:120]
        raise DataError(f"{name!r}: expected a local folder or a repository on the hub, got neither ({reason})") from error
    return load(found, features=features)


def push_to_hub(model: ConceptModel, name: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload a model as repository ``name`` ('owner/model'); returns the commit's address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(name, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(model, Path(scratch) / name.split("/")[-1])
        return str(api.upload_folder(repo_id=name, folder_path=folder))
