"""`sweep compare`: the comparison of configurations, and gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sweep.cli import options
from sweep.cli.output import emit, show, terminal
from sweep.store import Reading


@click.command(short_help="Compare configurations: is A better, or was it the seed?")
@options.directories
@click.option(
    "--baseline",
    metavar="NAME",
    help="Compare each configuration with this one only: a variant, a directory, or its position, counted from 1.",
)
@click.option("--metric", help="The metric to compare, for example val/nll. Default: the primary metric.")
@click.option("--unpaired", is_flag=True, help="Use Welch's t test even if both sides have the same seeds.")
@click.option(
    "--margin",
    type=float,
    help="Also test for equivalence: differences of at most this much, in units of the metric, count as equal; for "
    "example 0.005.",
)
@click.option(
    "--require",
    multiple=True,
    metavar="RULE",
    help='Turn the comparison into a gate, for example "test/accuracy >= base - 0.005". Can be repeated.',
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    default=0,
    help="How many failed seeds a candidate may have and still pass the gate.",
    show_default=True,
)
@options.group_by
@click.option("--fresh", is_flag=True, help="Use only the seeds that were added last, after results existed.")
@options.level("interval, test and gate")
@options.formats("md", "latex")
def compare(directories: tuple[Path, ...], unpaired: bool, group_by: str | None, format_: str, **asked: Any) -> int:
    """Compare directories, or the variants of one, by their primary metric.

    If both sides plan the same seeds, the test is paired by seed; otherwise it is Welch's t test. The report also
    has the exact permutation p value, P(A > B) and Hedges' g, with Holm's correction over all pairs. With --require
    the first directory is the base, and the exit code is 0 (passed), 1 (contradicted) or 4 (undecided).

    \b
      sweep compare runs/forest
      sweep compare runs/base runs/candidate --require "test/accuracy >= base - 0.005"
    """
    from sweep.report import comparison

    stores = [Reading.of(path) for path in directories]
    found = comparison.compare(*stores, paired=not unpaired, group_by=options.keys(group_by), **asked)
    if format_ == "json":
        emit(comparison.to_json(found))
    elif format_ == "text":
        show(comparison.text(found, **terminal()))
    else:
        show((comparison.markdown if format_ == "md" else comparison.latex)(found))
    return found.code
