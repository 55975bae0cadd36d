"""KEY=VALUE, as typed on a command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sweep.config.yaml import DEEPEST, INTERPOLATION, MOST_NODES, RAW_KEYS, parse, scalar, show
from sweep.errors import ConfigError


@dataclass(frozen=True)
class Override:
    """One KEY=VALUE. grid: the value was a comma list, each entry a variant's."""

    text: str
    path: tuple[str, ...]
    value: Any
    grid: bool = False

    @property
    def target(self) -> tuple[str, ...]:
        """Return the path in the config that it sets."""
        return ("grid", ".".join(self.path)) if self.grid else self.path

    def tree(self) -> dict[str, Any]:
        """Return a config with this setting alone."""
        value = self.value
        for key in reversed(self.target):
            value = {key: value}
        return dict(value)


def parse_override(text: str) -> Override:
    """Return `params.optimizer.lr=1e-3` as a path and a YAML scalar, or a YAML list, mapping or quoted text.

    `params.x=1,2` is a grid; the values of seed, seeds and command stay as written. Raises: ConfigError.
    """
    key, equals, raw = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    try:
        if key[:1] in ("+", "~"):
            raise ConfigError(f"{key[0]} has no meaning here", hint="write KEY=VALUE; no key can be taken away")
        if not equals:
            hint = "a config comes first: sweep run CONFIG KEY=VALUE"
            file = text.endswith((".yaml", ".yml"))
            raise ConfigError("is not KEY=VALUE", hint=hint if file else "for example params.epochs=20")
        if not all(path) or len(path) > DEEPEST:
            raise ConfigError(f"{show(key)} is no path of keys", hint="for example params.optimizer.lr")
        if path[0] in RAW_KEYS and len(path) > 1:
            raise ConfigError(f"{path[0]} has no keys below it", hint=f"write {path[0]}=…")
        if "${" in text:
            raise ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
        return _override(text, path, raw.strip())
    except ConfigError as problem:
        # The key alone where a secret is named as likely as not.
        where = shown(key if problem.what == INTERPOLATION[0] else text)
        raise ConfigError(problem.what, where=where, hint=problem.hint) from None


def _override(text: str, path: tuple[str, ...], raw: str) -> Override:
    if path[0] in RAW_KEYS:
        return Override(text, path, parse(raw, raw=True)[0] if raw[:1] in ("[", '"', "'") else raw)
    parts = list(split(raw)) if path[0] == "params" and len(path) > 1 else [raw]
    if len(parts) == 1:
        return Override(text, path, _value(raw))
    if len(parts) > MOST_NODES:
        raise ConfigError(f"{len(parts)} values, the limit is {MOST_NODES}")
    if not all(parts):
        raise ConfigError("an empty entry between commas", hint="quote the value if the comma is part of it")
    return Override(text, path, [_value(part) for part in parts], grid=True)


def _value(text: str) -> Any:
    # Bare text is a scalar and no more: `:` and `#` are part of it, as in until=test/accuracy: A > B
    return parse(text)[0] if text[:1] in ("[", "{", '"', "'") else scalar(text)


def split(text: str) -> Iterator[str]:
    """Split at the commas that stand outside quotes and brackets; blanks around the parts are dropped."""
    start = place = depth = 0
    quote = ""
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\" and quote == '"':
                place += 1
            elif char == quote:
                quote = ""
        elif char in "\"'" and not text[start:place].rpartition(",")[2].strip(" [{:"):
            quote = char  # only at the start of a value: in `it's` it is a letter
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            yield text[start:place].strip()
            start = place + 1
        place += 1
    yield text[start:].strip()


def shown(text: str) -> str:
    """Return what the user typed, on one line, cut."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:50]}…"
