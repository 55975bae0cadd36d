"""`sweep collect`: read a program's metrics again, from what it left."""

from __future__ import annotations

import click

from sweep.cli import options
from sweep.cli.output import say


@click.command(short_help="Read a program's metrics again, without training.", options_metavar="[OPTIONS]")
@click.argument("directory")
@click.option(
    "--metrics", metavar="WHERE",
    help="Where to find the metrics, as in sweep run, for example 'val_acc={number}'. Default: the setting that the "
    "directory keeps.",
)  # fmt: skip
@options.report_json
def collect(directory: str, metrics: str | None, as_json: bool) -> int:
    """Read the metrics of all finished runs of a program again, from its kept output and its files.

    \b
      sweep collect runs/train --metrics 'val_acc={number}'
      sweep collect runs/train --metrics metrics.csv

    Nothing is trained. A run that failed because it had no metrics becomes ok if they are found now. The old records
    are kept. If a run did not keep enough output, the command names it and changes nothing.
    """
    from pathlib import Path

    from sweep.cli.read import show_report
    from sweep.cli.run import where_metrics
    from sweep.errors import StoreError
    from sweep.recollect import collect_of, recollect
    from sweep.store import Store

    store = Store.open(directory)
    if store.manifest.adopted:
        raise StoreError("its runs were adopted", where=directory, hint="adopt them again, with --replace")
    if store.manifest.experiment.get("target", {}).get("kind") != "command":
        raise StoreError(
            "its runs are no program's: a recipe and a function report their metrics themselves", where=directory
        )
    if Path(store.shown) != store.path:
        raise StoreError("metrics are read again in a directory of this machine", where=store.shown)
    wanted = collect_of(store.manifest.config.get("collect"))
    if metrics is not None:
        made = {**where_metrics(metrics), **({"predictions": wanted.predictions} if wanted else {})}
        wanted = collect_of(made)
    with Store.lock(store.path):
        for said in recollect(store, wanted):
            say(said, err=True)
    return show_report(Store.open(directory), "json" if as_json else "text")
