"""A config file, KEY=VALUE overrides and keyword arguments, merged and checked; all problems at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweep.config.explain import problems
from sweep.config.overrides import Override, parse_override, shown
from sweep.config.plain import plain
from sweep.config.rules import safe_name
from sweep.config.schema import DEFAULT_NAME, Config
from sweep.config.yaml import RAW_KEYS, Document, read
from sweep.config.yaml import Path as Keys
from sweep.errors import ConfigError
from sweep.nested import merge
from sweep.seeds import seeds_file

_OF_RECIPES = (
    "model", "data", "optimizer", "schedule", "epochs", "batch_size", "precision", "loader_workers",
    "augment", "stop_early", "label_smoothing",
)  # fmt: skip
_MISPLACED = {
    **{key: f"parameters stand under params: params.{key}" for key in _OF_RECIPES},
    "lr": "parameters stand under params: params.optimizer.lr",
    "num_epochs": "parameters stand under params: params.epochs",
}


@dataclass
class _Draft:
    """A config on its way: where its values came from, and what was wrong so far."""

    document: Document
    overrides: list[Override] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    found: list[ConfigError] = field(default_factory=list)

    def origin(self, path: Keys) -> str:
        """Return ` (line 7)`, ` (from threads=x)`, ` (argument)`, or nothing."""
        if path and path[0] in self.settings:
            return " (argument)"
        words = tuple(map(str, path))
        for override in reversed(self.overrides):
            reach = override.target
            if words[: len(reach)] == reach or reach[: len(words)] == words:
                return f" (from {shown(override.text)})"
        line = self.document.line(path)
        return f" (line {line})" if line else ""

    def add(self, problem: ConfigError, path: Keys) -> None:
        place = ".".join(map(str, path)) + self.origin(path)
        self.found.append(ConfigError(problem.what, where=place or None, hint=problem.hint))


def load(path: str | Path | None = None, overrides: Sequence[str] = (), **settings: Any) -> Config:
    """Return the config of a YAML file, changed by `KEY=VALUE` overrides, then by keyword arguments.

    Without a file: the embedded example. An argument that is None counts as not given. Mappings merge, all
    else replaces. A comma list (`params.optimizer.lr=0.01,0.1`) becomes a grid, except in `seeds`. YAML is
    read as version 1.2: `1e-3` is a float, only true and false are booleans; `${` is refused. A seeds file
    (`seeds: "@seeds.txt"`) is looked for beside the config that names it, else in the current folder.

    Raises: ConfigError with every problem, each at its path and line.
    """
    file = None if path is None else Path(path)
    document = Document({}, {}) if file is None else read(file)
    if file is not None and (found := seeds_file(document.value.get("seeds"), file.parent)):
        document.value["seeds"] = f"@{found}"
    draft = _Draft(document, settings={key: value for key, value in settings.items() if value is not None})
    for text in overrides:
        try:
            draft.overrides.append(parse_override(text))
        except ConfigError as problem:
            draft.found.append(problem)
    merged = _merge(draft)
    _overridden(merged, draft)
    if merged.get("name") is None:
        merged["name"] = called(merged) if file is None else safe_name(file.stem)
    return _checked(merged, draft, None if file is None else str(file))


def from_dict(value: Mapping[str, Any], *, where: str | None = None) -> Config:
    """Return the config that `to_dict` wrote. Raises: ConfigError when somebody else wrote something else."""
    draft = _Draft(Document({}, {}))
    return _checked(plain(value, draft.add), draft, where)


def _checked(merged: Any, draft: _Draft, where: str | None) -> Config:
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        draft.found += problems(error, model=Config, origin=draft.origin, elsewhere=_MISPLACED)
    else:
        if not draft.found:
            return config
    raise ConfigError.of(draft.found, where=where)


def _merge(draft: _Draft) -> dict[str, Any]:
    merged = draft.document.value
    for override in draft.overrides:
        if _into_list(merged, override.path):
            draft.add(ConfigError("points into a list", hint="a list is replaced as a whole: KEY=[…]"), override.path)
        else:
            merged = merge(merged, override.tree())
    merged = merge(merged, draft.settings)
    found: dict[str, Any] = plain({key: value for key, value in merged.items() if key not in RAW_KEYS}, draft.add)
    for path in _missing(found):
        hint = f"add {'.'.join(map(str, path))}=…"
        draft.add(ConfigError("is required (???) and was not given", hint=hint), path)
    return found | {key: merged[key] for key in RAW_KEYS if key in merged}


def called(given: Mapping[str, Any]) -> str:
    """Return a name where no file gives one: that of a training function's module or of a recipe, or the example's."""
    train, recipe = (value if isinstance(value, str) else "" for value in (given.get("train"), given.get("recipe")))
    module, _, name = (train or ("" if recipe.startswith("sweep.") else recipe)).partition(":")
    if recipe and not train and name not in ("", "recipe"):
        module = name
    return safe_name(module.rpartition(".")[2]) if module else DEFAULT_NAME


def _into_list(merged: Any, path: Keys) -> bool:
    """Return whether `params.layers.0=3` meets a list: merged, it would silently become a mapping."""
    for key in path[:-1]:
        merged = merged.get(key) if isinstance(merged, dict) else None
        if isinstance(merged, list):
            return True
    return False


def _missing(value: Any, path: Keys = ()) -> Iterator[Keys]:
    if value == "???":
        yield path
    items: Any = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else items:
        yield from _missing(inner, (*path, key))


def _overridden(merged: dict[str, Any], draft: _Draft) -> None:
    """Let one value on the command line outdo a grid over it; refuse it where a task would undo it."""
    last = {override.path: override for override in draft.overrides if override.path[0] == "params"}
    for path, override in last.items():
        if not override.grid:
            _drop(merged.get("grid"), path)
        tasks = merged.get("tasks")
        for name, task in tasks.items() if isinstance(tasks, dict) else ():
            if _drop(task, path):
                hint = f"change tasks.{name} in the file instead"
                draft.add(ConfigError("would do nothing: a task sets it", hint=hint), path)
                break


def _drop(value: Any, path: Sequence[str]) -> bool:
    """Take the entry at `path` away, however deep it was nested; return whether there was one."""
    if not isinstance(value, dict):
        return False
    if ".".join(path) in value:
        del value[".".join(path)]
        return True
    return any(_drop(value.get(".".join(path[:n])), path[n:]) for n in range(1, len(path)))
