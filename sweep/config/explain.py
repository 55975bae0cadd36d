"""Pydantic's findings as messages with a path, the value, and what to type instead."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sweep.config.yaml import quoted
from sweep.errors import ConfigError, show
from sweep.redaction import is_secret

# Parameters of the built-in recipes as people type them, with their paths.
SHORT = {"lr": "params.optimizer.lr", "batch_size": "params.batch_size", "num_epochs": "params.epochs"}
_PLAIN = {
    "missing": "is required but was not given",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "finite_number": "must be a finite number, not {shown}",
    "greater_than": "must be more than {gt}, not {shown}",
    "greater_than_equal": "must be at least {ge}, not {shown}",
    "less_than": "must be less than {lt}, not {shown}",
    "less_than_equal": "must be at most {le}, not {shown}",
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


def explain(error: ValidationError, *, where: str = "", model: type[BaseModel]) -> ConfigError:
    """Return one ConfigError with every finding at its path below `where`.

    model: the keys that "did you mean" may suggest.
    """
    return ConfigError.of(problems(error, where=where, model=model))


def problems(
    error: ValidationError,
    *,
    where: str = "",
    model: type[BaseModel],
    origin: Callable[[tuple[str | int, ...]], str] = lambda path: "",
) -> list[ConfigError]:
    """Return the findings of `explain` one by one. origin: what to add to a path (its line)."""
    found = []
    for detail in error.errors(include_url=False):
        path = tuple(detail["loc"])
        what, hint = _message(detail, path, model)
        place = ".".join(str(part) for part in ((where, *path) if where else path))
        found.append(ConfigError(what, where=(place + origin(path)) or None, hint=hint))
    return found


def _message(detail: ErrorDetails, path: tuple[str | int, ...], model: type[BaseModel]) -> tuple[str, str | None]:
    kind, value, context = detail["type"], detail.get("input"), detail.get("ctx") or {}
    last = str(path[-1]) if path else ""
    shown = "a value that is not shown" if is_secret(last) else show(value)
    if kind == "extra_forbidden":
        known = _keys_below(model, path[:-1])
        deeper = (f"{key}.{last}" for key, info in known.items() if last in fields(model_in(info.annotation)))
        if hint := nearest(last, known) or next((f"did you mean {key}?" for key in deeper), None):
            return "unknown key", hint
        if len(path) == 1 and "params" in known:
            return "unknown key", f"parameters go under params: {SHORT.get(last, f'params.{last}')}"
        return "unknown key", f"known keys: {', '.join(known)}" if known else None
    if kind in ("refused", "value_error"):
        return str(context.get("what") or context.get("error") or detail["msg"]), context.get("hint")
    if kind in _PLAIN:
        return _PLAIN[kind].format(shown=shown, **context), None
    if kind in ("literal_error", "enum"):
        choices = str(context["expected"]).replace("'", "")
        words = [word.strip() for word in choices.replace(" or ", ", ").split(",")]
        return f"must be {choices}, not {shown}", nearest(value, words) if isinstance(value, str) else None
    head = "int" if kind == "int_from_float" else re.sub("(_attributes)?(_from)?_[^_]*$", "", kind)
    if (wanted := _KINDS.get(head)) is not None:
        return f"must be {wanted}, not {shown}", _how(head, value)
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]} ({shown})", None


def _how(wanted: str, value: object) -> str | None:
    if wanted in ("int", "float") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "give one value; only keys of params can have several, as a grid" if "," in value else None
        return "remove the quotes, which make it text"
    if wanted == "int" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if wanted == "bool" and isinstance(value, str):
        word = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower())
        return f"write {word}; yes, no, on and off are text here, as in YAML 1.2" if word else None
    if wanted == "string" and isinstance(value, bool | int | float):
        return quoted(str(value).lower() if isinstance(value, bool) else str(value))
    return None


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return "did you mean …?", or None if nothing is close."""
    close = get_close_matches(str(name), list(known), n=1)
    return f"did you mean {close[0]}?" if close else None


def fields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """Return the keys of a model, each with its field."""
    return {info.alias or name: info for name, info in model.model_fields.items()} if model is not None else {}


def _keys_below(model: type[BaseModel] | None, path: Sequence[str | int]) -> dict[str, FieldInfo]:
    for part in path:
        info = fields(model).get(str(part))
        model = model_in(info.annotation) if info is not None else None
    return fields(model)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the group of keys that an annotation names, or None for a single value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := model_in(part))), None)
    return None
