"""Text from the command line to values: ``name:key=value,...``, ``key=value``, options by a builder's annotations."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from isthmus.errors import OptionError, unknown

NOTHING = {"none", "null"}
MANY = (list, tuple, Sequence, set, frozenset)


def described(annotation: Any) -> str:
    """An annotation in words a command line shows: ``joint|sequential``, ``float``, ``int or none``."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(str(choice) for choice in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys("none" if each is type(None) else described(each) for each in inside))
    if origin is not None and inside:
        kinds = [described(each) for each in inside if each is not Ellipsis]
        return f"{','.join(dict.fromkeys(kinds))},..." if origin is not dict else "JSON object"
    named = {"str": "text", "bool": "true|false", "Any": "value", "Path": "path", "PathLike": "path", "_empty": "value"}
    name = getattr(annotation, "__name__", str(annotation))
    return named.get(name, name)


def hints_of(build: Callable[..., Any]) -> dict[str, Any]:
    """A builder's annotations by option."""
    try:
        return get_type_hints(inspect.unwrap(build))
    except NameError:  # an annotation imported for type checkers only
        return {}


def _allows(annotation: Any, kind: Callable[[Any], bool]) -> bool:
    inside = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return any(kind(each) for each in inside)


def loosened(text: str, annotation: Any) -> Any:
    """Text as far as an annotation needs it taken apart: none, a list (``64,32`` or JSON), a JSON object."""
    if text.lower() in NOTHING and _allows(annotation, lambda each: each is type(None)):
        return None
    if text.startswith("{") and _allows(annotation, lambda each: get_origin(each) in (dict, Mapping) or each is dict):
        return _json(text)
    if _allows(annotation, lambda each: get_origin(each) in MANY or each in (list, tuple)):
        inside = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
        if inside == text and "," not in text and _allows(annotation, lambda each: each is str):
            return text
        return _json(text) if text.startswith("[") and '"' in text else [_unquoted(part) for part in _parts(inside)]
    return text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OptionError(f"expected JSON, got {text[:60]!r} ({error})") from error


def typed(options: Mapping[str, str], build: Callable[..., Any], owner: str) -> dict[str, Any]:
    """Options given as text, by the annotations of ``build``; ``owner`` names it in errors: "data set 'poker'"."""
    from pydantic import TypeAdapter, ValidationError

    known, hints = inspect.signature(build).parameters, hints_of(build)
    clean: dict[str, Any] = {}
    for name, text in options.items():
        if name not in known:
            raise unknown(f"option of {owner}", name, known)
        annotation = hints.get(name, Any)
        try:
            adapter = TypeAdapter[Any](annotation, config={"arbitrary_types_allowed": True})
            clean[name] = adapter.validate_python(loosened(text, annotation))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise OptionError(f"option {name!r} of {owner}: {reason}, got {text!r}") from error
    return clean


def pair(text: str, place: str, *, last: bool = False) -> tuple[str, str]:
    """``name=value`` cut at the first '=' (``last``: the last, for names that hold one); ``place`` stands in errors."""
    name, equals, value = text.rpartition("=") if last else text.partition("=")
    if not equals or not name.strip():
        raise OptionError(f"{place}: expected name=value, got {text!r}")
    return name.strip(), value.strip()


def pairs(texts: Iterable[str], place: str, *, last: bool = False) -> dict[str, str]:
    """Repeated ``name=value``; a name given twice is refused."""
    found: dict[str, str] = {}
    for text in texts:
        name, value = pair(text, place, last=last)
        if name in found:
            raise OptionError(f"{place}: {name!r} is given twice, as {found[name]!r} and as {value!r}; keep one")
        found[name] = value
    return found


def named(text: str) -> tuple[str, dict[str, str]]:
    """``poker:cards=5,seed=1`` -> ('poker', {'cards': '5', 'seed': '1'}); commas inside brackets do not cut."""
    cut = re.search(r":(?=\s*\w+\s*=)", text)
    if cut is None:
        name, colon, rest = text.partition(":")
        if colon and name.isidentifier() and not set(rest) & set("/\\"):
            raise OptionError(f"{text!r}: expected {name}:option=value,option=value, got {rest!r}")
        return text, {}
    options: dict[str, str] = {}
    for part in _parts(text[cut.end() :]):
        key, equals, value = part.partition("=")
        if not equals or key.strip() in options:
            got = "twice " + repr(key) if equals else repr(part)
            raise OptionError(f"{text!r}: expected {text[: cut.start()]}:option=value,option=value, got {got}")
        options[key.strip()] = value.strip()
    return text[: cut.start()], options


def _parts(text: str) -> list[str]:
    """Cut at commas outside brackets; empty parts fall away."""
    parts, depth = [""], 0
    for ch in text:
        depth += (ch in "[{(") - (ch in ")]}")
        if ch == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += ch
    return [part.strip() for part in parts if part.strip()]
