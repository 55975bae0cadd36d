"""`sweep compare`: is A better than B, or was it the seed?"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from sweep.cli.output import emit, show
from sweep.store import Reading


@click.command(short_help="Is A better than B, or was it the seed? Also a gate.")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", metavar="NAME", help="Compare each with this one: a variant, a directory, or its place.")
@click.option("--metric", help="Instead of the primary metric.")
@click.option("--unpaired", is_flag=True, help="Welch's t even where seeds are shared.")
@click.option("--margin", type=float, help="Differences within ± this count as equal.")
@click.option("--require", multiple=True, metavar="RULE", help='A gate: "test/accuracy >= base - 0.005".')
@click.option("--max-failures", type=click.IntRange(0), default=0, help="Failed seeds a passing candidate may have.")
@click.option("--group-by", metavar="KEYS", help="Cut the grid by these parameters only, e.g. lr.")
@click.option("--fresh", is_flag=True, help="Only the seeds of the last extension.")
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95, show_default=True,
              help="Of every interval, test and gate.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["text", "md", "latex", "json"]), default="text")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
def compare(
    directories: tuple[Path, ...],
    baseline: str | None,
    metric: str | None,
    unpaired: bool,
    margin: float | None,
    require: tuple[str, ...],
    max_failures: int,
    group_by: str | None,
    fresh: bool,
    level: float,
    format_: str,
    as_json: bool,
) -> int:
    """Compare directories, or the variants of one, by their primary metric.

    Paired by the seeds that both plan, else Welch's t; with exact permutation p, P(A > B),
    Hedges' g and Holm over all pairs. Of two directories the first is the base of --require, which exits
    0 (passed), 1 (contradicted) or 4 (undecided).
    """
    from sweep import comparison
    from sweep.cli.read import keys
    from sweep.report import wants_color

    stores = [Reading.of(path) for path in directories]
    found = comparison.compare(
        *stores, baseline=baseline, metric=metric, paired=not unpaired, margin=margin, require=require,
        max_failures=max_failures, group_by=keys(group_by), fresh=fresh,
        level=level,
    )  # fmt: skip
    if as_json or format_ == "json":
        emit(comparison.to_json(found))
    elif format_ == "text":
        width = min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 100
        show(comparison.text(found, width=width, color=wants_color(sys.stdout)))
    else:
        show((comparison.markdown if format_ == "md" else comparison.latex)(found))
    return found.code
