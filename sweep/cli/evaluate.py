"""`sweep items` and `sweep examples`: scores of single items, and the answers that depend on the seed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sweep.cli import options
from sweep.cli.output import emit, show_document
from sweep.errors import ConfigError
from sweep.store import Store
from sweep.words import path_argument

_against = click.option(
    "--against", type=click.Path(path_type=Path), help="A second run directory to compare with, for example runs/two."
)


@click.command(short_help="Report the scores of single items: mean, pass@k and flips.")
@options.directory
@click.option("--name", help="The set of items to report, for example gsm8k, if there are several.")
@click.option(
    "--k",
    "ks",
    multiple=True,
    type=click.IntRange(1),
    help="The number of tries k of pass@k and pass^k, for example 5. Can be repeated.",
)
@_against
@options.level()
@options.formats("md", "latex")
def items(
    directory: Path, name: str | None, ks: tuple[int, ...], against: Path | None, level: float, format_: str
) -> int:
    """Report scores of items, such as the questions of a benchmark, that runs saved with run.save_scores.

    The mean has one interval over seeds, one over items (or over clusters, if they were saved) and one over both.
    With --against, two directories are paired by item, and by seed if they have the same seeds.
    """
    from sweep import evaluation
    from sweep.report import evaluation as view

    stores = [Store.open(path) for path in (directory, against) if path is not None]
    chosen = name or _only(evaluation.names(stores[0]), directory)
    found = [evaluation.items(store, chosen, ks=ks, level=level) for store in stores]
    compared = None
    if against is not None:
        for each, path in zip(found, (directory, against), strict=True):
            if len(each) > 1:
                raise ConfigError(f"{path} has {len(each)} variants or tasks, but --against compares only one with one")
        compared = evaluation.compare(found[0][0], found[1][0], level)
    if format_ == "json":
        emit({"items": [_plain(asdict(one)) for one in found[0]],
              "against": _plain(asdict(compared)) if compared else None})  # fmt: skip
        return 0
    every = [one for each in found for one in each]
    show_document(view.items_view(every, compared, f"sweep report {path_argument(str(directory))}"), format_)
    return 0


@click.command(short_help="Report which answers depend on the seed.")
@options.directory
@options.split("read")
@options.variant
@options.task
@options.allow_missing
@_against
@options.level()
@options.formats("md", "latex")
def examples(directory: Path, against: Path | None, level: float, format_: str, **which: Any) -> int:
    """Report on how many examples the members disagree, and what you gain by answering only where they agree.

    With --against, the churn between two configurations is shown beside the churn that seeds alone cause in each.
    """
    from sweep import evaluation
    from sweep.report import evaluation as view

    found = evaluation.answers(Store.open(directory), which, level=level)
    difference = None
    if against is not None:
        second = {**which, "variant": which["variant"] if against == directory else None}
        difference = evaluation.between(found, evaluation.answers(Store.open(against), second, level=level), level)
    if format_ == "json":
        emit({"answers": _plain(asdict(found)), "against": _plain(asdict(difference)) if difference else None})
        return 0
    show_document(view.answers_view(found, difference), format_)
    return 0


def _only(names: list[str], directory: Path) -> str:
    if len(names) == 1:
        return names[0]
    what = f"there are {len(names)} sets of items: {', '.join(names)}" if names else "no run saved scores of items"
    hint = "choose one with --name" if names else "call run.save_scores, or name the file in the config: collect.scores"
    raise ConfigError(what, where=str(directory), hint=hint)


def _plain(value: Any) -> Any:
    """Return arrays as lists, so that JSON can hold them."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in ("table", "labels")}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value
