"""What commands share when they print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from sweep.store import atomic


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(atomic.dumps(value, indent=2))


def headline(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The few metrics that a line has room for: those of the test split before the others."""
    return sorted(metrics.items(), key=lambda item: not item[0].startswith("test/"))[:3]
