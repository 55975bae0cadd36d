"""Pydantic's findings as messages with a path, the value, and what to type instead."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sweep.config.redaction import is_secret
from sweep.config.yaml import quoted, show
from sweep.errors import ConfigError

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "dict": "keys with values",
    "model": "keys with values",
    "dataclass": "keys with values",
    "mapping": "keys with values",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
}


def explain(
    error: ValidationError,
    *,
    where: str = "",
    model: type[BaseModel],
) -> ConfigError:
    """Return one ConfigError with every finding at its path below `where`.

    model: knows the keys, for "did you mean".
    """
    return ConfigError.of(problems(error, where=where, model=model))


def problems(
    error: ValidationError,
    *,
    where: str = "",
    model: type[BaseModel],
    origin: Callable[[tuple[str | int, ...]], str] = lambda path: "",
    elsewhere: Mapping[str, str] | None = None,
) -> list[ConfigError]:
    """Return the findings of `explain` one by one.

    origin: what to add to a path (its line); elsewhere: hints for keys that belong further down.
    """
    found = []
    for detail in error.errors(include_url=False):
        path = tuple(detail["loc"])
        what, hint = _message(detail, path, model, elsewhere or {})
        place = ".".join(str(part) for part in ((where, *path) if where else path))
        found.append(ConfigError(what, where=(place + origin(path)) or None, hint=hint))
    return found


def _message(
    detail: ErrorDetails,
    path: tuple[str | int, ...],
    model: type[BaseModel],
    elsewhere: Mapping[str, str],
) -> tuple[str, str | None]:
    kind, value, context = detail["type"], detail.get("input"), detail.get("ctx") or {}
    last = str(path[-1]) if path else ""
    shown = "a value that is not shown" if is_secret(last) else show(value)
    if kind == "extra_forbidden":
        known = keys_below(model, path[:-1])
        return "unknown key", nearest(last, known) or (elsewhere.get(last) if len(path) == 1 else None) or _all(known)
    if kind == "missing":
        return "is required and was not given", None
    if kind in ("refused", "value_error"):
        return str(context.get("what") or context.get("error") or detail["msg"]), context.get("hint")
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}, not {shown}", None
    if kind in ("literal_error", "enum"):
        choices = str(context["expected"]).replace("'", "")
        words = [word.strip() for word in choices.replace(" or ", ", ").split(",")]
        return f"must be {choices}, not {shown}", nearest(value, words) if isinstance(value, str) else None
    if kind == "finite_number":
        return f"must be a finite number, not {shown}", None
    if kind in ("too_short", "string_too_short"):
        return "is empty", None
    head = kind.rpartition("_")[0].removesuffix("_attributes").removesuffix("_from")
    if kind == "int_from_float":
        head = "int"
    if (wanted := _KINDS.get(head)) is not None:
        return f"must be {wanted}, not {shown}", _how(head, value)
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]} ({shown})", None


def _how(wanted: str, value: object) -> str | None:
    if wanted in ("int", "float") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "only params.… take several values, as a grid" if "," in value else None
        return "quotes make it text: write it without them"
    if wanted == "int" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if wanted == "bool" and isinstance(value, str):
        word = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower())
        return f"write {word}: yes, no, on and off are plain words here, as in YAML 1.2" if word else None
    if wanted == "string" and isinstance(value, bool | int | float):
        return quoted(str(value).lower() if isinstance(value, bool) else str(value))
    return None


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return "did you mean …?", or None when nothing is near."""
    close = get_close_matches(str(name), list(known), n=1)
    return f"did you mean {close[0]}?" if close else None


def _all(known: Sequence[str]) -> str | None:
    return f"known here: {', '.join(known)}" if known else None


def keys_below(model: type[BaseModel] | None, path: Sequence[str | int]) -> list[str]:
    """Return the keys that a model knows at `path`; empty when there is no model there."""
    for part in path:
        if model is None:
            break
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        model = model_in(fields[str(part)].annotation) if str(part) in fields else None
    return [] if model is None else [info.alias or name for name, info in model.model_fields.items()]


def model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := model_in(part))), None)
    return None
