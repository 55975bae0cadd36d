"""Callbacks for frameworks with a training loop of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.errors import EnvironmentRefused, SweepError

# The prefixes of metrics in the frameworks, and their splits.
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "eval": "val", "test": "test"}


def split_name(name: str) -> str:
    """Return `val/loss` for `val_loss` and `eval_loss`. A name without a split stays as it is."""
    head, mark, rest = name.partition("_")
    if "/" in name or not mark or not rest or head not in _SPLITS:
        return name
    return f"{_SPLITS[head]}/{rest}"


def named(metrics: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Return the metrics that are numbers, under our names: from `names` (theirs -> ours), or else by `split_name`."""
    out: dict[str, float] = {}
    for name, value in metrics.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(plain, (int, float)) and not isinstance(plain, bool):
            out[names.get(name, split_name(name))] = float(plain)
    return out


def require_device(planned: str, used: str, hint: str) -> None:
    """Refuse a framework that trains on another device than the planned one. Raises: SweepError."""
    if used != planned:
        raise SweepError(f"it trains on {used}, but the run was planned for {planned}", where="device", hint=hint)


def absent(framework: str, error: ModuleNotFoundError) -> EnvironmentRefused:
    """Return the error for a framework that is not installed."""
    name = framework.lower()
    return EnvironmentRefused(
        f"{framework} is not installed ({error})", where=f"sweep.integrations.{name}",
        hint=f'pip install "seed-sweep[{name}]"',
    )  # fmt: skip
