"""KEY=VALUE, as typed on a command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.config.yaml import DEEPEST, INTERPOLATION, RAW_KEYS, parse, scalar
from sweep.errors import ConfigError, one_line, short, show


@dataclass(frozen=True)
class Override:
    """One KEY=VALUE. grid: the value was a comma list with one entry per variant."""

    text: str
    path: tuple[str, ...]
    value: Any
    grid: bool = False

    @property
    def target(self) -> tuple[str, ...]:
        """Return the config path that it sets."""
        return ("grid", ".".join(self.path)) if self.grid else self.path

    def tree(self) -> dict[str, Any]:
        """Return a config with only this setting."""
        value = self.value
        for key in reversed(self.target):
            value = {key: value}
        return dict(value)


def parse_override(text: str) -> Override:
    """Return `params.optimizer.lr=1e-3` as a path and a YAML scalar, or a YAML list, mapping or quoted text.

    `params.x=1,2` is a grid. The values of seed, seeds and command stay as written. Raises: ConfigError.
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"{show(text)} is not text of the form KEY=VALUE", hint="a training function comes first: sweep.run(train)"
        )
    key, equals, raw = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    try:
        if key[:1] in ("+", "~"):
            raise ConfigError(f"{key[0]} before a key is not supported", hint="write KEY=VALUE; no key can be removed")
        if not equals:
            hint = "name the config first: sweep run CONFIG KEY=VALUE"
            file = text.endswith((".yaml", ".yml"))
            raise ConfigError("is not KEY=VALUE", hint=hint if file else "write for example params.epochs=20")
        if not all(path) or len(path) > DEEPEST:
            raise ConfigError(f"{show(key)} is not a path of keys", hint="write for example params.optimizer.lr")
        if path[0] in RAW_KEYS and len(path) > 1:
            raise ConfigError(f"{path[0]} has no keys below it", hint=f"write {path[0]}=…")
        if "${" in text:
            raise ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
        return _override(text, path, raw.strip())
    except ConfigError as problem:
        # Show only the key: the value may name a secret.
        where = short(one_line(key if problem.what == INTERPOLATION[0] else text))
        raise ConfigError(problem.what, where=where, hint=problem.hint) from None


def _override(text: str, path: tuple[str, ...], raw: str) -> Override:
    if path[0] in RAW_KEYS:
        return Override(text, path, parse(raw, raw=True)[0] if raw[:1] in ("[", '"', "'") else raw)
    if "," in raw and path[0] == "params" and len(path) > 1:
        if raw.endswith(","):  # YAML would ignore it
            raise ConfigError(
                "has an empty entry after the last comma", hint="remove the comma, or quote text that ends with one"
            )
        values = parse(f"[{raw}]")[0]
        return Override(text, path, values, grid=True) if len(values) > 1 else Override(text, path, values[0])
    # Bare text is always a scalar: `:` and `#` are part of it, as in until=test/accuracy: A > B
    return Override(text, path, parse(raw)[0] if raw[:1] in ("[", "{", '"', "'") else scalar(raw))
