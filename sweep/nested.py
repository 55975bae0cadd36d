"""Nested parameters: dictionaries in dictionaries, with a dotted path for each entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` updated by `over`: mappings are merged key by key, other values are replaced."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def assign(params: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Return `params` with the entry at the dotted path set. A plain value on the path is replaced."""
    head, _, rest = dotted.partition(".")
    below = params.get(head)
    inner = below if isinstance(below, Mapping) else {}
    return {**params, head: assign(inner, rest, value) if rest else value}


def flatten(value: Mapping[str, Any], above: str = "", mark: str = ".") -> list[tuple[str, Any]]:
    """Return (path, value) of every value that is not a mapping. mark: between the parts of a path."""
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = f"{above}{mark}{key}" if above else str(key)
        found += flatten(inner, path, mark) if isinstance(inner, Mapping) else [(path, inner)]
    return found
