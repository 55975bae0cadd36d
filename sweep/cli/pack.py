"""`sweep pack`: a run directory as one file."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli import options
from sweep.cli.output import say
from sweep.errors import ConfigError
from sweep.store import Reading
from sweep.words import path_argument


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
        raise ConfigError(f"{target.name} is no name for a zip", where="--out", hint=f"--out {target.name}.zip")
    count = archive.pack(store, target)
    say(f"wrote {target}: {count} files, {target.stat().st_size:,} bytes")
    say(f"next: sweep report {path_argument(str(target))}")
    return 0
