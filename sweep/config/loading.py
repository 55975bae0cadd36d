"""Config files, KEY=VALUE overrides and keyword arguments, merged and checked, and configs as data and YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import ValidationError

from sweep.config.explain import problems
from sweep.config.overrides import Override, parse_override
from sweep.config.rules import safe_name
from sweep.config.schema import DEFAULT_NAME, Config
from sweep.config.yaml import DEEPEST, INTERPOLATION, RAW_KEYS, Contested, Float, Int, read, scalar
from sweep.config.yaml import Path as Keys
from sweep.errors import ConfigError, one_line, short, show
from sweep.nested import flatten, merge
from sweep.seeds import format_seeds, seeds_file


@dataclass
class _Draft:
    """A config being built: where its values came from, and the problems found so far."""

    lines: Mapping[Keys, int]
    overrides: list[Override] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    found: list[ConfigError] = field(default_factory=list)

    def origin(self, path: Keys) -> str:
        """Return ` (line 7)`, ` (from threads=x)`, ` (argument)`, or nothing, as for what concerns several keys."""
        if not path:
            return ""
        if path[0] in self.settings:
            return " (argument)"
        words = tuple(map(str, path))
        for override in reversed(self.overrides):
            reach = override.target
            if words[: len(reach)] == reach or reach[: len(words)] == words:
                return f" (from {short(one_line(override.text))})"
        line = next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)
        return f" (line {line})" if line else ""

    def add(self, problem: ConfigError, path: Keys) -> None:
        place = ".".join(map(str, path)) + self.origin(path)
        self.found.append(ConfigError(problem.what, where=place or None, hint=problem.hint))


def load(path: str | Path | None = None, overrides: Sequence[str] = (), **settings: Any) -> Config:
    """Return the config of a YAML file, changed by `KEY=VALUE` overrides, then by keyword arguments.

    Without a file: the built-in example. An argument that is None counts as not given. Mappings are merged,
    everything else is replaced. A comma list (`params.optimizer.lr=0.01,0.1`) becomes a grid, except in `seeds`.
    YAML is read as version 1.2: `1e-3` is a float, only true and false are booleans; `${` is refused. A seeds file
    (`seeds: "@seeds.txt"`) is looked for next to the config that names it, else in the current folder.

    Raises: ConfigError with every problem, each at its path and line.
    """
    file = None if path is None else Path(path)
    value: dict[str, Any] = {}
    lines: dict[Keys, int] = {}
    if file is not None:
        value, lines = read(file)
        if found := seeds_file(value.get("seeds"), file.parent):
            value["seeds"] = f"@{found}"
    draft = _Draft(lines, settings={key: value for key, value in settings.items() if value is not None})
    for text in overrides:
        try:
            draft.overrides.append(parse_override(text))
        except ConfigError as problem:
            draft.found.append(problem)
    merged = _merge(value, draft)
    _overridden(merged, draft)
    if merged.get("name") is None:
        merged["name"] = called(merged) if file is None else safe_name(file.stem)
    return _checked(merged, draft, None if file is None else str(file))


def from_dict(value: Mapping[str, Any], *, where: str | None = None) -> Config:
    """Return the config that `to_dict` wrote. Raises: ConfigError for anything else."""
    draft = _Draft({})
    return _checked(plain(value, draft.add), draft, where)


def to_dict(config: Config) -> dict[str, Any]:
    """Return plain data, defaults included, that `from_dict` reads back; not redacted: see `redact`."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return a config, as `to_dict` or a run directory holds it, as YAML that `load` reads back, with its secrets."""
    kept = {key: inner for key, inner in _without_nothing(value).items() if inner not in ({}, [])}
    if len(kept.get("seeds", ())) > 20:
        kept["seeds"] = format_seeds(kept["seeds"])
    text: str = yaml.dump(kept, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    return text


def _checked(merged: Any, draft: _Draft, where: str | None) -> Config:
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        draft.found += problems(error, model=Config, origin=draft.origin)
    else:
        if not draft.found:
            return config
    raise ConfigError.of(draft.found, where=where)


def _merge(merged: dict[str, Any], draft: _Draft) -> dict[str, Any]:
    for override in draft.overrides:
        if _into_list(merged, override.path):
            draft.add(ConfigError("points into a list", hint="give the whole list: KEY=[…]"), override.path)
        else:
            merged = merge(merged, override.tree())
    merged = merge(merged, draft.settings)
    found: dict[str, Any] = plain({key: value for key, value in merged.items() if key not in RAW_KEYS}, draft.add)
    return found | {key: merged[key] for key in RAW_KEYS if key in merged}


def called(given: Mapping[str, Any]) -> str:
    """Return the name of a config without a file: its training function's module, its recipe, or the example's name."""
    train, recipe = (value if isinstance(value, str) else "" for value in (given.get("train"), given.get("recipe")))
    module, _, name = (train or ("" if recipe.startswith("sweep.") else recipe)).partition(":")
    if recipe and not train and name not in ("", "recipe"):
        module = name
    return safe_name(module.rpartition(".")[2]) if module else DEFAULT_NAME


def _into_list(merged: Any, path: Keys) -> bool:
    """Return whether `params.layers.0=3` points into a list, which a merge would silently turn into a mapping."""
    for key in path[:-1]:
        merged = merged.get(key) if isinstance(merged, dict) else None
        if isinstance(merged, list):
            return True
    return False


def _overridden(merged: dict[str, Any], draft: _Draft) -> None:
    """Replace a grid by a single value from the command line. Refuse the value if a task would override it."""
    last = {override.path: override for override in draft.overrides if override.path[0] == "params"}
    for path, override in last.items():
        grid, tasks = merged.get("grid"), merged.get("tasks")
        named = [".".join(path)] if override.grid else [key for key, _ in flatten(override.tree())]
        at_or_below = tuple(f"{key}." for key in named)
        if isinstance(grid, dict) and not override.grid:
            merged["grid"] = {key: values for key, values in flatten(grid) if not f"{key}.".startswith(at_or_below)}
        for name, task in tasks.items() if isinstance(tasks, dict) else ():
            if isinstance(task, dict) and any(f"{key}.".startswith(at_or_below) for key, _ in flatten(task)):
                hint = f"change tasks.{name} in the file instead"
                draft.add(ConfigError("has no effect, because a task sets it", hint=hint), path)
                break


# Below these, no declared type can tell that `no` should be false.
_UNTYPED = ("params", "grid", "tasks")


def plain(value: Any, report: Callable[[ConfigError, Keys], None], path: Keys = ()) -> Any:
    """Return a caller's values in a form that strict JSON can hold, with NumPy scalars and paths converted.

    Anything that cannot be plain data (NaN, `${`, objects, keys that are not text, text that is not Unicode, more
    than 32 levels) is passed to `report` with its path. Such a value becomes None; such a key is left out.
    """
    if isinstance(value, PurePath):
        value = str(value)
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    try:
        if len(path) > DEEPEST:
            raise ConfigError(f"is nested deeper than {DEEPEST} levels")
        if isinstance(value, list | tuple):
            return [plain(inner, report, (*path, place)) for place, inner in enumerate(value)]
        if isinstance(value, Mapping):
            kept = {}
            for key, inner in value.items():
                if not isinstance(key, str) or not key:
                    report(ConfigError(f"the key {show(key)} is not text"), path)
                elif plain(str(key), report, path) is not None:
                    kept[key] = plain(inner, report, (*path, key))
            return kept
        return _leaf(value, untyped=path[:1] != () and path[0] in _UNTYPED)
    except ConfigError as problem:
        report(problem, path)
        return None


def _leaf(value: Any, *, untyped: bool) -> bool | int | float | str | None:
    """Return a single value. Raises: ConfigError."""
    if value is None or isinstance(value, bool) or (untyped and isinstance(value, Int | Float)):
        return value
    if isinstance(value, str):
        if "${" in value:
            raise ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise ConfigError(f"{show(value)} is not Unicode text", hint="write it as UTF-8")
        if isinstance(value, Contested) and (untyped or value.number):
            raise ConfigError(value.what, hint=value.hint)
        return str(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ConfigError("has more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise ConfigError(f"{value} is not a finite number", hint="write a finite number")
        return float(value)
    raise ConfigError(
        f"a config cannot hold a {type(value).__name__}",
        hint="use text, numbers, true, false, lists and keys with values",
    )


def _without_nothing(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without our own unset keys. A user's None in params means None."""
    return {
        key: _without_nothing(inner) if key in ("resources", "checkpoint", "collect") else inner
        for key, inner in value.items()
        if inner is not None
    }


def _written(dumper: Any, text: str) -> Any:
    # PyYAML quotes what YAML 1.1 would misread. Only our reader needs quotes around `1e-3`.
    plain = text.isprintable() and type(scalar(text)) is str
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


# Made by a call because PyYAML has no types to derive from. Without aliases, equal lists are written out.
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
_Dumper.add_representer(str, _written)
