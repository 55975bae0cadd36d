"""What commands share when they print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from sweep.errors import printable
from sweep.number import number
from sweep.store import atomic


def say(text: str, *, err: bool = False) -> None:
    """Print text that may hold names and messages of others."""
    click.echo(printable(text), err=err)


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(atomic.dumps(value, indent=2))


def in_short(metrics: Mapping[str, float]) -> str:
    """Return the few metrics that a line has room for, those of the test split before the others."""
    chosen = sorted(metrics.items(), key=lambda item: not item[0].startswith("test/"))[:3]
    return "  ".join(f"{name} {number(value, digits=4)}" for name, value in chosen)
