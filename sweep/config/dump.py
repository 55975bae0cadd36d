"""A config as plain data and as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from sweep.config.schema import Config
from sweep.config.yaml import scalar
from sweep.seeds import format_seeds


def to_dict(config: Config) -> dict[str, Any]:
    """Return plain data, defaults included, that `from_dict` reads back; not redacted: see `redact`."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return a config, as `to_dict` or a run directory holds it, as YAML that `load` reads back; nothing is hidden."""
    kept = {key: inner for key, inner in _without_nothing(value).items() if inner not in ({}, [])}
    if len(kept.get("seeds", ())) > 20:
        kept["seeds"] = format_seeds(kept["seeds"])
    text: str = yaml.dump(kept, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    return text


def _without_nothing(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out our own keys that are unset; the user's None in params means None."""
    return {
        key: _without_nothing(inner) if key in ("resources", "checkpoint", "collect") else inner
        for key, inner in value.items()
        if inner is not None
    }


def _text(dumper: Any, text: str) -> Any:
    # PyYAML quotes what YAML 1.1 would misread; `1e-3` needs quotes for our reading only.
    plain = text.isprintable() and type(scalar(text)) is str
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


# Made by a call because PyYAML has no types to derive from. Without aliases, equal lists are written out.
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
_Dumper.add_representer(str, _text)
