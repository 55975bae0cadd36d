"""A config file, KEY=VALUE overrides and keyword arguments, merged and checked; every problem named at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sweep.config.document import DEEPEST, INTERPOLATION, Ambiguous, Document, parse, read, scalar
from sweep.config.explain import nearest, problems
from sweep.config.redaction import redact
from sweep.config.schema import DEFAULT_NAME, Config, put, show
from sweep.errors import ConfigError
from sweep.seeds import format_seeds, parse_seed, parse_seeds

# Keys whose text is read by a grammar of their own; OmegaConf and YAML must not interpret it.
_AS_WRITTEN = ("seed", "seeds", "command")
_FREE = ("params", "grid", "tasks")  # values here have no declared type that could catch `no` for false
_RECIPE_KEYS = (
    "model", "data", "optimizer", "schedule", "epochs", "batch_size", "precision", "loader_workers", "augment",
    "stop_early", "label_smoothing",
)  # fmt: skip
_MISPLACED = {
    **{key: f"parameters stand under params: params.{key}" for key in _RECIPE_KEYS},
    "lr": "parameters stand under params: params.optimizer.lr",
    "num_epochs": "parameters stand under params: params.epochs",
}


@dataclass(frozen=True)
class Override:
    """One KEY=VALUE. `grid`: the value was a comma list, one variant an entry."""

    text: str
    path: tuple[str, ...]
    value: Any
    grid: bool = False

    def tree(self) -> dict[str, Any]:
        if self.grid:
            return {"grid": {".".join(self.path): self.value}}
        out: dict[str, Any] = {}
        put(out, list(self.path), self.value)
        return out


@dataclass
class _Sources:
    """Where each value came from, for messages; and what was wrong so far."""

    document: Document
    overrides: list[Override] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    found: list[ConfigError] = field(default_factory=list)

    def origin(self, path: tuple[str | int, ...]) -> str:
        """ " (line 7)", " (from threads=x)", " (argument)", or nothing."""
        if path and path[0] in self.settings:
            return " (argument)"
        words = tuple(map(str, path))
        for over in reversed(self.overrides):
            reach = ("grid", ".".join(over.path)) if over.grid else over.path
            if words[: len(reach)] == reach or reach[: len(words)] == words:
                return f" (from {_cut(over.text)})"
        line = self.document.line(path)
        return f" (line {line})" if line else ""

    def add(self, problem: ConfigError, path: tuple[str | int, ...]) -> None:
        place = ".".join(map(str, path)) + self.origin(path)
        self.found.append(ConfigError(problem.what, where=place, hint=problem.hint))


def load(path: str | Path | None = None, overrides: Sequence[str] = (), **settings: Any) -> Config:
    """The config of a YAML file, changed by `KEY=VALUE` overrides, then by keyword arguments; None among these: not
    given. Without a file: the embedded example.

    Mappings merge, everything else replaces. A comma list (`params.optimizer.lr=0.01,0.1`) becomes a grid, except in
    `seed` and `seeds`. YAML is read as version 1.2: `1e-3` is a float, only true and false are booleans. `${` is
    refused. A seeds file named in the config is looked for beside it, elsewhere in the current folder.

    Raises: ConfigError with every problem, each at its path and line.
    """
    file = None if path is None else Path(path)
    document = Document({}, {}) if file is None else read(file)
    sources = _Sources(
        document, settings={key: value for key, value in settings.items() if value is not None}
    )
    for text in overrides:
        try:
            sources.overrides.append(_override(text))
        except ConfigError as problem:
            sources.found.append(problem)
    merged = _merge(sources)
    _same_parameter(merged, sources)
    _seeds(merged, sources, file)
    if "name" not in merged:
        merged["name"] = DEFAULT_NAME if file is None else _stem(file)
    config = None
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        sources.found += problems(
            error, names=list(Config.model_fields), model=Config, origin=sources.origin, elsewhere=_MISPLACED
        )
    if sources.found or config is None:
        raise ConfigError.of(sources.found, where=None if file is None else str(file))
    return config


def from_dict(value: Mapping[str, Any], *, where: str | None = None) -> Config:
    """The config that `to_dict` wrote. Raises ConfigError, for files that somebody else made as well."""
    sources = _Sources(Document({}, {}))
    plain = _plain(value, (), sources)
    try:
        if not sources.found:
            return Config.model_validate(plain)
    except ValidationError as error:
        sources.found += problems(error, names=list(Config.model_fields), model=Config)
    raise ConfigError.of(sources.found, where=where)


def to_dict(config: Config) -> dict[str, Any]:
    """Plain data, defaults included, that `from_dict` reads back; not redacted: see `redact`."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: Config) -> str:
    """The resolved config as YAML that `load` reads back, secrets hidden."""
    value = {key: inner for key, inner in redact(to_dict(config)).items() if inner not in (None, {}, [])}
    value["seeds"] = list(config.seeds) if len(config.seeds) <= 20 else format_seeds(config.seeds)
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what our reading of YAML would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(scalar(text), str)
    except ConfigError:
        plain = False
    style = None if plain and not text.startswith("@") else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _override(text: str) -> Override:
    key, equals, raw = text.partition("=")
    where = _cut(text)
    if not equals:
        hint = (
            "a config file comes first: sweep run CONFIG KEY=VALUE …"
            if text.endswith((".yaml", ".yml"))
            else None
        )
        raise ConfigError("is not KEY=VALUE", where=where, hint=hint or "for example params.epochs=20")
    if key[:1] in ("+", "~"):
        hint = (
            f"leave the {key[0]} out: {_cut(text.lstrip('+~'))}"
            if key[0] == "+"
            else "no key can be taken away"
        )
        raise ConfigError(f"{key[0]} has no meaning here", where=where, hint=hint)
    path = tuple(key.strip().split("."))
    if not all(path):
        raise ConfigError(
            f"{show(key)} is not a path of keys", where=where, hint="for example params.optimizer.lr"
        )
    if len(path) > DEEPEST:
        raise ConfigError(f"{len(path)} keys deep, the limit is {DEEPEST}", where=where)
    if "${" in text:
        raise ConfigError(INTERPOLATION[0], where=key, hint=INTERPOLATION[1])
    raw = raw.strip()
    try:
        if path[0] in _AS_WRITTEN:
            return Override(text, path, _value(raw, as_written=True))
        parts = _split(raw) if path[0] == "params" and len(path) > 1 else [raw]
        if len(parts) == 1:
            return Override(text, path, _value(raw))
        if not all(part.strip() for part in parts):
            raise ConfigError(
                "an empty entry between commas", hint="quote the value if the comma is part of it"
            )
        return Override(text, path, [_value(part.strip()) for part in parts], grid=True)
    except ConfigError as problem:
        raise ConfigError(problem.what, where=where, hint=problem.hint) from None


def _value(text: str, *, as_written: bool = False) -> Any:
    if text[:1] in ("[", "{", '"', "'"):
        return parse(text, raw=as_written)[0]
    if as_written:
        return text
    value = scalar(text)
    # Bare text on the command line is not YAML beyond its scalars: colons and # are part of it.
    return Ambiguous(value) if isinstance(value, str) and _is_ambiguous(value) else value


def _is_ambiguous(text: str) -> bool:
    return re.fullmatch(r"(?i:yes|no|on|off)", text) is not None


def _split(text: str) -> list[str]:
    """At the commas that stand outside quotes and brackets."""
    parts, depth, quote, start, place = [], 0, "", 0, 0
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\" and quote == '"':
                place += 1
            elif char == quote:
                quote = ""
        elif char in "\"'" and not text[start:place].strip(" [{:,"):
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def _merge(sources: _Sources) -> dict[str, Any]:
    # Here, not at the top: reading commands use this module's redaction and pay 0.15 s less.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    layers = [sources.document.value, *(over.tree() for over in sources.overrides), dict(sources.settings)]
    written: dict[str, Any] = {}
    merged: Any = OmegaConf.create({})
    for layer in layers:
        for key in _AS_WRITTEN:
            if key in layer:
                written[key] = layer[key]
        rest = {key: value for key, value in layer.items() if key not in _AS_WRITTEN}
        plain = _plain(rest, (), sources)
        _whole_lists(OmegaConf, merged, plain, sources)
        try:
            merged = OmegaConf.merge(merged, OmegaConf.create(plain))
        except OmegaConfBaseException as error:
            sources.found.append(ConfigError(f"cannot be merged: {str(error).splitlines()[0]}"))
    result: dict[str, Any] = OmegaConf.to_container(merged, resolve=False)
    for path in _missing(result, ()):
        sources.add(ConfigError("is required (???) and was not given", hint=f"add {'.'.join(path)}=…"), path)
    for over in sources.overrides:
        if over.path[0] in _AS_WRITTEN and len(over.path) > 1:
            sources.add(ConfigError(f"{over.path[0]} has no keys below it"), over.path)
    return {**result, **written}


def _whole_lists(omega: Any, merged: Any, plain: Mapping[str, Any], sources: _Sources) -> None:
    """Refuse `params.layers.0=3`: merged into a list, it would silently replace the list by a mapping."""
    for key, value in plain.items():
        below = merged.get(key) if omega.is_dict(merged) and key in merged else None
        if not isinstance(value, Mapping) or below is None:
            continue
        if omega.is_list(below) and value:
            over = sources.overrides[-1].path if sources.overrides else (key,)
            sources.add(
                ConfigError("stands in a list, which is replaced as a whole", hint=f"write {key}=[…]"), over
            )
        elif omega.is_dict(below):
            _whole_lists(omega, below, value, sources)


def _missing(value: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if value == "???" and isinstance(value, str):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in _missing(inner, (*path, str(key)))]


def _plain(value: Any, path: tuple[str | int, ...], sources: _Sources) -> Any:
    """`value` as dict, list, str, int, float, bool, None; what cannot be is added to the problems and becomes None."""
    problem = None
    if len(path) > DEEPEST:
        problem = ConfigError(f"nested deeper than {DEEPEST} levels")
    elif isinstance(value, Mapping):
        out = {}
        for key, inner in value.items():
            if not isinstance(key, str) or not key or not _encodes(key) or "${" in key:
                sources.add(ConfigError(f"the key {show(key)} is not text"), path or (str(key),))
                continue
            out[key] = _plain(inner, (*path, key), sources)
        return out
    elif isinstance(value, list | tuple):
        return [_plain(inner, (*path, place), sources) for place, inner in enumerate(value)]
    elif isinstance(value, str):
        problem = _bad_text(value, path)
        if problem is None:
            return str(value)
    elif value is None or isinstance(value, bool):
        return value
    elif isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return int(value)
        problem = ConfigError("has more than 64 bits")
    elif isinstance(value, float):
        if isfinite(value):
            return float(value)
        problem = ConfigError(f"{value} is not a finite number", hint="write a finite number")
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        return _plain(value.item(), path, sources)
    elif isinstance(value, Path):
        return _plain(str(value), path, sources)
    else:
        problem = ConfigError(
            f"a {type(value).__name__} is not data", hint="text, numbers, true, false, lists, keys"
        )
    sources.add(problem, path)
    return None


def _bad_text(text: str, path: tuple[str | int, ...]) -> ConfigError | None:
    if "${" in text:
        return ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
    if not _encodes(text):
        return ConfigError(f"{show(text)} is not Unicode text", hint="write it as UTF-8")
    if isinstance(text, Ambiguous) and path[:1] and path[0] in _FREE:
        word = "true" if text.lower() in ("yes", "on") else "false"
        return ConfigError(
            f"{text} is text to YAML 1.2 and {word} to YAML 1.1",
            hint=f'write {word}, or "{text}" in quotes for text',
        )
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same_parameter(merged: dict[str, Any], sources: _Sources) -> None:
    """An override of one value outdoes the file's grid over it; one that a task would undo is refused."""
    last = {over.path: over for over in sources.overrides if over.path[0] == "params"}
    for path, over in last.items():
        dotted = ".".join(path)
        grid = merged.get("grid")
        if not over.grid and isinstance(grid, dict):
            grid.pop(dotted, None)
            inner: Any = grid
            for key in path[:-1]:
                inner = inner.get(key) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                inner.pop(path[-1], None)
        tasks = merged.get("tasks")
        for name, task in tasks.items() if isinstance(tasks, dict) else ():
            below: Any = task
            for key in path:
                below = below.get(key) if isinstance(below, dict) else None
            if below is not None or (isinstance(task, dict) and dotted in task):
                sources.add(
                    ConfigError(
                        "would do nothing: every task sets it", hint=f"change tasks.{name} in the file"
                    ),
                    path,
                )
                break


def _seeds(merged: dict[str, Any], sources: _Sources, file: Path | None) -> None:
    for key in ("seed", "seeds"):
        raw = merged.get(key)
        if raw is None:
            merged.pop(key, None)
            if key in sources.document.value and key == "seeds" and sources.document.value[key] in (None, ""):
                sources.add(ConfigError("no seeds", hint="write them like [42, 123, 456] or 0-9"), (key,))
            continue
        own = file is not None and not sources.origin((key,)).startswith((" (from", " (argument"))
        where = key + sources.origin((key,))
        try:
            if key == "seed":
                merged[key] = parse_seed(raw, where)
            else:
                merged[key] = parse_seeds(raw, where, base=file.parent if own and file is not None else None)
        except ConfigError as problem:
            sources.found.append(problem)
            del merged[key]


def _stem(file: Path) -> str:
    # The user's file may have any name; only names that we make are held to the allow-list.
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-.")[:100]
    return name or "sweep"


def _cut(text: str) -> str:
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:50]}…"


__all__ = ["from_dict", "load", "nearest", "to_dict", "to_yaml"]
