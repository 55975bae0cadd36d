"""`sweep adopt`: import existing results into a run directory."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from sweep.cli import options
from sweep.cli.output import emit, say
from sweep.words import path_argument, plural


@click.command(
    short_help="Import existing results into a run directory.", options_metavar="[OPTIONS]",
    epilog="KEY=VALUE sets a config key, for example primary=acc, goals.acc=max or references.TASK=[0.1,1].",
)  # fmt: skip
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE... [KEY=VALUE]...")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The run directory to write. Default: runs/NAME."
)
@click.option("--seed", metavar="NAME", help="The column or part of the pattern that holds the seed. Default: seed.")
@click.option("--variant", metavar="NAMES", help="The columns or parts that tell variants apart, for example method or "
              "lr,optimizer. Default: the parts of the pattern, or the settings that differ between runs.")  # fmt: skip
@click.option("--task", metavar="NAME", help="The column or part that names the data set. Default: task.")
@click.option("--metrics", metavar="WHERE", help="Where to find the metrics. For a table: its columns, for example "
              "acc,loss. For folders and logs, as in sweep run: FILE.csv, tensorboard:FOLDER, 'acc={number}'."
)  # fmt: skip
@click.option("--step", metavar="NAME", help="The column that holds the step. Default: step, epoch or iteration.")
@click.option("--predictions", metavar="PATTERN", help="The .npz files with predictions for sweep ensemble, such as "
              "'old/{lr}/seed{seed}/{split}.npz'. Each holds ids, targets, and probs or mean.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Import runs again if their files have changed. Old records are kept.")
@click.option("--dry-run", is_flag=True, help="Show what was found and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found, and the counts, as JSON.")
def adopt(
    sources: tuple[str, ...], out: Path | None, replace: bool, dry_run: bool, yes: bool, as_json: bool,
    **asked: str | None,
) -> int:  # fmt: skip
    """Import results that were made without sweep, so that report, compare, ensemble and other commands can read them.

    \b
      sweep adopt 'old/{lr}/seed{seed}/metrics.csv' --out runs/old
      sweep adopt table.csv --seed seed --variant method --task dataset --out runs/old
      sweep adopt mlruns        or mlflow.db, lightning_logs, ray_results, wandb-export.csv

    SOURCE is a pattern in quotes whose {parts} name the seed, the task and the variant of each file or folder (csv,
    json, jsonl, parquet, TensorBoard, or a text log), a table with one row per run or per run and step, or the
    folder of a tracker.

    Before anything is written, the command shows what it found, including runs that are missing, duplicated or of
    unequal length. Run the same command again to add new results. How adopted runs were made is not known, so verify
    and reproduce refuse them.
    """
    from sweep.adoption import adoption, opened, take
    from sweep.adoption.runs import Roles
    from sweep.cli.run import where_metrics
    from sweep.config.schema import Collect
    from sweep.errors import ConfigError

    overrides = tuple(word for word in sources if "=" in word and not os.path.exists(word) and _sets(word))
    places = [word for word in sources if word not in overrides]
    if not places:
        raise ConfigError("no results are named", where="SOURCE", hint="name some, for example: sweep adopt table.csv")
    variant, metrics = asked["variant"], asked["metrics"]
    roles = Roles(asked["seed"], asked["task"], options.keys(variant) if variant is not None else None)
    columns, collect = options.keys(metrics), None
    if metrics is not None and not all(Path(place).is_file() for place in places):
        columns, collect = (), Collect.model_validate(where_metrics(metrics))
    found = [opened(place, roles, columns, collect, asked["step"]) for place in places]
    where = out if out is not None else Path("runs") / found[0].name
    words = [*sources, *(word for name, each in asked.items() if each is not None for word in (f"--{name}", each))]
    origin = f"sweep adopt {shlex.join(words)}"
    plan = adoption(found, where, overrides=overrides, kept=asked["predictions"], origin=origin)
    if plan.numbered and len(places) > 1 and len(plan.manifest.experiment["cells"]) == 1:
        # A shell has expanded the pattern: runs of all settings would count as seeds of one.
        raise ConfigError(
            f"these {len(places)} sources do not say which seed and variant they are", where=places[0],
            hint="give a quoted pattern that names the seed and the settings: "
            "sweep adopt 'old/{lr}/seed{seed}/metrics.csv', or the column with --seed",
        )  # fmt: skip
    for line in plan.lines():
        say(line, err=as_json)
    if dry_run:
        if as_json:
            emit({"out": os.fspath(where), **plan.counts()})
        return 0
    if not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        click.confirm(f"adopt these runs into {where}?", default=True, abort=True)
    store, new, changed = take(plan, where, replacing=replace)
    if as_json:
        emit({"out": os.fspath(where), **plan.counts(), "new": new, "changed": changed})
        return 0
    replaced = f", {changed} replaced" if changed else ""
    known = len(plan.runs) - new - changed
    say(f"{plural(new, 'new run')} adopted into {store.shown}{replaced}; {known} already there")
    say(f"next: sweep report {path_argument(store.shown)}")
    return 0


def _sets(word: str) -> bool:
    """Return whether a word with an equals sign sets a config key: lr={lr}/seed{seed} is a pattern."""
    return "{" not in word or word.partition("=")[0] in ("references", "goals")
