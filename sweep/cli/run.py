"""`sweep run` and `sweep resume`: train what is missing, then report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import options
from sweep.cli.output import say
from sweep.errors import ConfigError
from sweep.words import plural

if TYPE_CHECKING:
    from sweep.config import Config
    from sweep.plan import Plan

_mode = click.option(
    "--deterministic/--fast", "deterministic", default=None,
    help="Use only kernels that give the same bits on the same software and hardware, or the fastest ones (the "
    "default), which are approximately reproducible.",
)  # fmt: skip
_metrics = click.option(
    "--metrics", metavar="WHERE",
    help="Where to find a program's metrics: FILE.json, FILE.csv, tensorboard:FOLDER, or a pattern for its output "
    "such as 'val_acc={number}' or a regular expression with named groups. Default: auto, which takes metrics.json in "
    "{dir}, or all JSON objects and Python dicts that the program prints, or the only file in {dir} that holds "
    "metrics, or what the program logs as text if it is plain, and says so. The last value of a name counts. Finished "
    "runs are read again, without training.",
)  # fmt: skip
_out = click.option(
    "--out", metavar="PATH",
    help="The run directory. Default: runs/NAME. If it is a URL, for example s3://bucket/runs, each run is copied "
    "there when it ends.",
)  # fmt: skip


_until = click.option(
    "--until",
    metavar="RULE",
    help='Add seeds until this holds, for example "test/accuracy +- 0.005" or "test/accuracy: A > B".',
)
_max_seeds = click.option(
    "--max-seeds", type=click.IntRange(1), help="The largest number of seeds that --until may use. Default: 64."
)


def _launching(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every command that starts a launch."""
    every = [
        click.option(
            "--engine",
            type=click.Choice(["ray", "inline"]),
            default="ray",
            show_default=True,
            help="Train on Ray, many runs at once, or inline: in this process, one run after the other.",
        ),
        click.option(
            "--address", help="Join a Ray cluster that is running: auto, or host:port, for example 10.0.0.5:6379."
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1),
            help="Train at most this many runs at once. Default: as many as the cores or GPUs allow.",
        ),
        click.option("--fail-fast", is_flag=True, help="Start no more runs after the first failure."),
        click.option("--retry-failed", is_flag=True, help="Train failed seeds again. Their old records are kept."),
        click.option(
            "--retrain",
            is_flag=True,
            help="Train every run again with the code and config of now. Old records are kept.",
        ),
        click.option("--break-lock", is_flag=True, help="Remove the lock of a launch that you know has ended."),
        options.report_json,
    ]
    for option in reversed(every):
        command = option(command)
    return command


@click.command(
    short_help="Train one model per seed, then report.",
    options_metavar="[OPTIONS]",
    epilog="Exit codes: 0 every planned run is ok, 1 some are not, 2 nothing was started, 3 bits differ unexpectedly.",
)  # fmt: skip
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--seeds", help="The seeds to train: 42,123,456, or 0-9, or both as in 0-9,42, or @FILE for a file of seeds."
)
@_mode
@click.option(
    "--vary",
    metavar="STREAMS",
    help="Let only these random streams differ between seeds: init, order, augment, dropout, split. For example "
    "order,dropout.",
)
@click.option(
    "--folds",
    type=int,
    help="Cut the data into this many folds: each seed is trained once per fold and tested on it, for example 5.",
)
@_metrics
@click.option(
    "--seed-env",
    metavar="NAME",
    help="Pass the seed in this environment variable instead of in the command, for example SEED.",
)
@_out
@_until
@_max_seeds
@click.option(
    "--lanes",
    help="How many seeds of a recipe train side by side on a GPU: auto (the default), off or a number, for example 16.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved config and the planned runs, and start nothing.")
@click.option("--cwd", metavar="{dir}", help="Let each run work in a folder of its own. It finds the files of this "
              "folder there: small ones as copies, files over 1 MiB and large folders as links.")  # fmt: skip
@click.option("--allow-shared", is_flag=True, default=None,
              help="Allow runs to write the same file of this folder side by side. Without it, the exit code is "
              "then 1.")  # fmt: skip
@_launching
@click.pass_context
def run(
    ctx: click.Context,
    /,
    config: str | None,
    overrides: tuple[str, ...],
    seeds: str | None,
    deterministic: bool | None,
    vary: str | None,
    folds: int | None,
    metrics: str | None,
    seed_env: str | None,
    out: str | None,
    until: str | None,
    max_seeds: int | None,
    lanes: str | None,
    dry_run: bool,
    cwd: str | None,
    allow_shared: bool | None,
    engine: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Train one model per seed, many at once, and report what the spread between them means.

    \b
      sweep run --seeds 42,123,456
      sweep run my.yaml --seeds 0-9 params.optimizer.lr=0.01
      sweep run --seeds 0-9 -- python train.py --lr 0.1 --seed {seed}

    CONFIG is a YAML file. Without one, the embedded example is trained: an MLP on scikit-learn's digits. KEY=VALUE
    changes a key, for example params.optimizer.lr=0.01; values with commas make a grid. `sweep config` lists all keys.

    Finished runs are not trained again: the same command resumes where the last one stopped, and new seeds are added to
    those that are there.

    After -- comes any program, as you would type it. {seed}, {dir} (the run's own folder), {device}, {run_id} and
    {params.NAME} are replaced in it, and with --folds {fold} and {folds}.
    """
    command = seeded(ctx.obj["command"], seed_env)
    if vary is not None:
        overrides = (*overrides, f"vary=[{vary}]")
    if folds is not None:
        overrides = (*overrides, f"folds={folds}")
    if cwd is not None:
        overrides = (*overrides, f"cwd={cwd}")
    if allow_shared:
        overrides = (*overrides, "allow_shared=true")
    checked = configured(
        config, overrides, command, metrics=metrics, seeds=seeds, deterministic=deterministic, until=until,
        max_seeds=max_seeds, lanes=int(lanes) if lanes and lanes.isascii() and lanes.isdecimal() else lanes,
    )  # fmt: skip
    return _launch(checked, out, engine, dry_run=dry_run, as_json=as_json, **options)


@click.command(short_help="Train the runs that a directory lacks.", options_metavar="[OPTIONS]")
@click.argument("directory")
@click.option("--seeds", help="Seeds to add to those of the directory: 42,123,456, or 0-9, or both, or @FILE.")
@_until
@_max_seeds
@_metrics
@_launching
@options.trust
def resume(
    directory: str,
    seeds: str | None,
    until: str | None,
    max_seeds: int | None,
    metrics: str | None,
    engine: str,
    as_json: bool,
    trust: bool,
    **options: Any,
) -> int:
    """Train the runs that DIRECTORY lacks, with the config that it keeps, and report.

    \b
      sweep resume runs/digits-mlp
      sweep resume runs/digits-mlp --seeds 0-19

    Finished runs are not trained again. Run the command in the folder of the first command, because files and modules
    are searched from there. The directory may come from anywhere, so code that is not part of sweep is named first and
    runs only with --trust.
    """
    from sweep.start import kept

    collect = None if metrics is None else where_metrics(metrics)
    checked = kept(
        directory, seeds=seeds, trust=trust, say=partial(say, err=True), until=until, max_seeds=max_seeds,
        collect=collect,
    )  # fmt: skip
    return _launch(checked, directory, engine, as_json=as_json, **options)


def _launch(
    config: Config, out: str | None, engine: str, *, as_json: bool, dry_run: bool = False, **options: Any
) -> int:
    rebirth(config.deterministic and engine == "inline")
    from sweep.worker import forked

    if engine == "inline" and forked.planned(config) and not dry_run:
        forked.start(deterministic=config.deterministic)  # it loads while what it will train is found
    from sweep.start import ready, start

    if dry_run:
        plan, path, _ = ready(config, out, retrain=options["retrain"])
        _dry(plan, path, as_json)
        return 0
    launch = start(config, out, engine, **options)
    from sweep.engine import job_address

    if engine == "ray" and options["address"] is None and (cluster := job_address()):
        say(f"this is a job of the Ray cluster {cluster}: its nodes train the runs", err=True)
    from sweep.cli.conduct import conduct

    return conduct(launch, as_json=as_json)


def configured(
    config: str | None,
    overrides: tuple[str, ...],
    command: Sequence[str] = (),
    *,
    metrics: str | None = None,
    seeds: str | None = None,
    deterministic: bool | None = None,
    **settings: Any,
) -> Config:
    """The config of a command line; the first argument may already be an override.

    command: the words after `--`; a sweep of them that is given no name is called by their script's.
    """
    from sweep.config import load

    if config is not None and "=" in config and not os.path.exists(config):
        overrides, config = (config, *overrides), None
    for text in overrides:
        if "=" not in text:
            first = f"a config stands first: sweep run {text} KEY=VALUE" if text.endswith((".yaml", ".yml")) else ""
            raise ConfigError(f"{text!r} is not of the form KEY=VALUE", hint=first or "e.g. params.optimizer.lr=0.01")
    if command:
        settings["command"] = list(command)
        if config is None and not any(text.partition("=")[0].strip() == "name" for text in overrides):
            from sweep.target.command import name

            settings["name"] = name(command)
    if metrics is not None:
        settings["collect"] = where_metrics(metrics)
    return load(config, overrides, seeds=seeds, deterministic=deterministic, **settings)


def seeded(command: Sequence[str] | None, variable: str | None) -> list[str]:
    """Return the words of a command that finds its seed in a variable. Raises: ConfigError."""
    words = list(command or ())
    if variable is None:
        return words
    if not words or not (variable.isidentifier() and variable.isascii()):
        raise ConfigError(
            f"{variable!r} cannot name a variable" if words else "no program is named", where="--seed-env",
            hint="e.g. sweep run --seeds 0-9 --seed-env SEED -- python train.py",
        )  # fmt: skip
    return ["env", f"{variable}={{seed}}", *words]


def where_metrics(text: str) -> dict[str, str]:
    """The entry of `collect` that `--metrics` is short for.

    Raises: ConfigError.
    """
    if text == "auto":
        return {}
    if "(?P<" in text or "{number}" in text:
        return {"regex": text}
    if text.startswith("tensorboard:"):
        return {"tensorboard": text.removeprefix("tensorboard:") or "."}
    for key, endings in {"json": (".json", ".jsonl", ".ndjson"), "csv": (".csv", ".tsv", ".parquet")}.items():
        if text.lower().endswith(endings):
            return {key: text}
    raise ConfigError(
        f"{text!r} is no place for metrics", where="--metrics",
        hint="FILE.json, FILE.csv, tensorboard:FOLDER or a pattern such as 'acc={number}'",
    )  # fmt: skip


def rebirth(needed: bool) -> None:
    """Start this process again with the variables that an interpreter reads only at its start."""
    from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM

    missing = {k: v for k, v in ENVIRONMENT_FOR_DETERMINISM.items() if k not in os.environ}
    if needed and missing:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, "-P", "-m", "sweep.cli", *_words()], {**os.environ, **missing})


def _words() -> list[str]:
    called_as_ml_train = os.path.basename(sys.argv[0]).startswith("ml-train")
    return (["ml-train"] if called_as_ml_train else []) + sys.argv[1:]


def _dry(plan: Plan, out: Path, as_json: bool) -> None:
    from itertools import islice

    from sweep.cli.output import emit
    from sweep.prepare import manifest_of

    config = manifest_of(plan).config
    if as_json:
        emit({"out": str(out), "config": config, "planned": len(plan),
              "runs": [{"key": spec.key, "id": spec.id} for spec in islice(plan, 1000)]})  # fmt: skip
        return
    from sweep.config import to_yaml

    say(to_yaml(config).rstrip())
    say(f"\n{len(plan)} runs in {out} on {plan.device}, {plural(plan.config.threads, 'thread')} each")
    for spec in islice(plan, 50):
        say(f"  {spec.key:<40} {spec.id[:12]}")
    if len(plan) > 50:
        say(f"  and {len(plan) - 50} more")
