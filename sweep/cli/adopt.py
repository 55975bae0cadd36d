"""`sweep adopt`: take results that exist into a run directory."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from sweep.cli.output import emit, say


@click.command(
    short_help="Take results that exist into a run directory.", options_metavar="[OPTIONS]",
    epilog="KEY=VALUE: primary=acc, goals.acc=max, references.TASK=[0.1,1].",
)  # fmt: skip
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE... [KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run directory; runs/NAME by default.")
@click.option("--seed", metavar="NAME", help="The column or part that is the seed; default: the one called so.")
@click.option("--variant", metavar="NAMES", help="Those that tell variants apart: method, or lr,optimizer; default: "
              "the parts of a pattern, and else what differs between runs.")  # fmt: skip
@click.option("--task", metavar="NAME", help="The column or part that is the data set; default: the one called task.")
@click.option("--metrics", metavar="WHERE", help="Of a table its columns: acc,loss. Of a run's folder or log as for "
              "sweep run: FILE.csv, tensorboard:FOLDER, 'acc={number}'.")  # fmt: skip
@click.option("--step", metavar="NAME", help="The column that is the step; default: step, epoch or iteration.")
@click.option("--predictions", metavar="PATTERN", help="The .npz of each run, e.g. 'old/{lr}/seed{seed}/{split}.npz', "
              "for sweep ensemble: ids, targets, and probs or mean.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Take runs that have changed as they are now; old records are kept.")
@click.option("--dry-run", is_flag=True, help="Show what was found; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="What was found, and the counts, as JSON.")
def adopt(
    sources: tuple[str, ...],
    out: Path | None,
    seed: str | None,
    variant: str | None,
    task: str | None,
    metrics: str | None,
    step: str | None,
    predictions: str | None,
    replace: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Take results that were not made here into a run directory, for report, compare, ensemble and the rest.

    \b
      sweep adopt 'old/{lr}/seed{seed}/metrics.csv' --out runs/old
      sweep adopt table.csv --seed seed --variant method --task dataset --out runs/old
      sweep adopt mlruns        or mlflow.db, lightning_logs, ray_results, wandb-export.csv

    SOURCE is a pattern in quotes whose {parts} name the seed, the task and the variant of each file or folder (csv,
    json, jsonl, parquet, TensorBoard, or a log with --metrics 'acc={number}'), a table with one row per run or per
    run and step, or the folder of a tracker.

    What was found is shown first, with what is missing, twice there or of unequal length. The same command again adds
    what is new. Nothing is known of how adopted runs were made: verify and reproduce refuse them.
    """
    from sweep.adoption import adoption, opened, take
    from sweep.adoption.sources import Roles
    from sweep.cli.read import keys
    from sweep.cli.run import configured, where_metrics
    from sweep.config.schema import Collect
    from sweep.errors import ConfigError

    overrides = tuple(word for word in sources if "=" in word and not os.path.exists(word) and "{" not in word)
    places = [word for word in sources if word not in overrides]
    if not places:
        raise ConfigError("no results are named", where="SOURCE", hint="e.g. sweep adopt table.csv")
    roles = Roles(seed, task, keys(variant) if variant is not None else None)
    columns, collect = keys(metrics), None
    if metrics is not None and not all(Path(place).is_file() for place in places):
        columns, collect = (), Collect.model_validate(where_metrics(metrics) or {})
    found = [opened(place, roles, columns, collect, step) for place in places]
    where = out if out is not None else Path("runs") / found[0].name
    options = {
        "--seed": seed, "--variant": variant, "--task": task, "--metrics": metrics, "--step": step,
        "--predictions": predictions,
    }  # fmt: skip
    words = [*sources, *(word for name, given in options.items() if given is not None for word in (name, given))]
    plan = adoption(
        found, where, config=configured(None, overrides) if overrides else None, kept=predictions,
        origin=f"sweep adopt {shlex.join(words)}",
    )  # fmt: skip
    for line in plan.lines():
        say(line, err=as_json)
    if dry_run:
        if as_json:
            emit({"out": os.fspath(where), **plan.counts()})
        return 0
    if not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        click.confirm(f"adopt them into {where}?", default=True, abort=True)
    store, new, changed = take(plan, where, replacing=replace)
    if as_json:
        emit({"out": os.fspath(where), **plan.counts(), "new": new, "changed": changed})
        return 0
    replaced = f", {changed} replaced" if changed else ""
    say(f"{new} new runs adopted into {store.shown}{replaced}; {len(plan.runs) - new - changed} were there")
    say(f"next: sweep report {shlex.quote(store.shown)}")
    return 0
