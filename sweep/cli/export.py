"""`sweep export`: a run directory in the formats of other tools."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from sweep.cli import options
from sweep.cli.output import say
from sweep.store import Reading
from sweep.words import path_argument


@click.command(short_help="Write CSV, Parquet or TensorBoard files, or runs for MLflow or W&B.")
@options.directory
@click.option(
    "--to",
    "kind",
    type=click.Choice(["csv", "parquet", "tensorboard", "mlflow", "wandb-offline"]),
    required=True,
    help="The format to write.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder to write. Default: NAME-FORMAT, for example digits-mlp-csv.",
)
def export(directory: Path, kind: str, out: Path | None) -> int:
    """Write every run in a format that other tools read. csv and parquet include the summary over seeds.

    csv and parquet: runs (one row per run), history (one row per run and step), summary (one row per metric).
    tensorboard: the curves and results of each run. mlflow, wandb-offline: one tracker run for each run, and one for
    each variant with the mean, low and high of every metric over its seeds. Nothing is sent anywhere.
    """
    from sweep import export as exports

    store = Reading.of(directory)
    folder = out if out is not None else Path(f"{directory.resolve().name}-{kind}")
    made = exports.export(store, kind, folder)  # type: ignore[arg-type]  # click has checked the word
    for path in made if len(made) <= 12 else made[:6]:
        say(f"wrote {path}")
    if len(made) > 12:
        say(f"and {len(made) - 6} more")
    if kind == "tensorboard":
        say(f"next: tensorboard --logdir {path_argument(str(folder))}")
    elif kind == "mlflow":
        say(f"next: mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{made[0]}')}")
    elif kind == "wandb-offline":
        say(f"next: wandb sync {path_argument(str(folder))}/wandb/offline-run-*")
    else:
        summary = json.dumps(str(folder / f"summary.{kind}"), ensure_ascii=False)
        say(f"next: python -c {shlex.quote(f'import pandas; print(pandas.read_{kind}({summary}))')}")
    return 0
