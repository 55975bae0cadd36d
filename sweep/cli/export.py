"""`sweep export` and `sweep pack`: a run directory in the formats of other tools, and as one file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from sweep.cli import options
from sweep.cli.output import say
from sweep.errors import ConfigError
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
        say(f"next: tensorboard --logdir {path_argument(folder)}")
    elif kind == "mlflow":
        say(f"next: mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{made[0]}')}")
    elif kind == "wandb-offline":
        say(f"next: wandb sync {path_argument(folder)}/wandb/offline-run-*")
    else:
        summary = json.dumps(str(folder / f"summary.{kind}"), ensure_ascii=False)
        say(f"next: python -c {shlex.quote(f'import pandas; print(pandas.read_{kind}({summary}))')}")
    return 0


@click.command(short_help="Write one zip with everything, for a repository or a colleague.")
@options.directory
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.zip", help="The zip file to write. Default: NAME.zip."
)
def pack(directory: Path, out: Path | None) -> int:
    """Write one zip: the run directory, its HTML page, its tables as CSV, and an RO-Crate description with sha256 sums.

    report, compare, ensemble, export and sweep.open read the zip as they read the directory.
    """
    from sweep import archive

    store = Reading.of(directory)
    target = out if out is not None else Path(f"{directory.resolve().name}.zip")
    if target.suffix != ".zip":
        raise ConfigError(f"{target.name} does not end in .zip", where="--out", hint=f"write --out {target.name}.zip")
    count = archive.pack(store, target)
    say(f"wrote {target}: {count} files, {target.stat().st_size:,} bytes")
    say(f"next: sweep report {path_argument(target)}")
    return 0
