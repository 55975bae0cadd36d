"""`sweep run`, `sweep resume` and `ml-train` train what is missing; `sweep collect` reads programs' metrics again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import options
from sweep.cli.output import emit, say
from sweep.errors import ConfigError, StoreError
from sweep.words import plural

if TYPE_CHECKING:
    from sweep.config import Config
    from sweep.plan import Plan

SETTINGS = ("seeds", "deterministic", "vary", "folds", "until", "max_seeds", "cwd", "allow_shared")  # config keys

_mode = click.option(
    "--deterministic/--fast", "deterministic", default=None,
    help="Use only kernels that give the same bits on the same software and hardware, or the fastest ones (the "
    "default), which are approximately reproducible.",
)  # fmt: skip
_metrics = click.option(
    "--metrics", metavar="WHERE",
    help="Where to find a program's metrics: FILE.json, FILE.csv, tensorboard:FOLDER, or a pattern for its output "
    "such as 'val_acc={number}' or a regular expression with named groups. Default: auto, which reads metrics.json in "
    "{dir}, or else all JSON objects and Python dicts that the program prints, or else the only file in {dir} with "
    "metrics, or else the metrics in the text that it logs; in the last two cases, a note says so. The last value of a "
    "name counts. Finished runs are read again, without training.",
)  # fmt: skip
_out = click.option(
    "--out", metavar="PATH",
    help="The run directory. Default: runs/NAME. If it is a URL, for example s3://bucket/runs, each run is copied "
    "there when it ends.",
)  # fmt: skip
_until = options.key("--until", metavar="RULE")
_max_seeds = options.key("--max-seeds", type=click.IntRange(1))


def _launching(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every command that starts a launch."""
    every = [
        click.option(
            "--engine",
            type=click.Choice(["ray", "inline"]),
            default="ray",
            show_default=True,
            help="Train many runs at once on Ray, or one run after the other in this process (inline).",
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
            help="Train every run again with the current code and config. Old records are kept.",
        ),
        click.option(
            "--break-lock",
            is_flag=True,
            help="Remove the lock of another command. Use this only if you know that it has ended.",
        ),
        options.report_json,
    ]
    for option in reversed(every):
        command = option(command)
    return command


@click.command(
    short_help="Train one model per seed, then report.",
    options_metavar="[OPTIONS]",
    epilog="Exit codes: 0 if every planned run is ok, 1 if some are not, 2 if nothing was started, 3 if bits differ "
    "unexpectedly.",
)  # fmt: skip
@click.argument("config", required=False)
@options.overrides
@options.key("--seeds")
@_mode
@options.key("--vary", metavar="STREAMS")
@options.key("--folds", type=int)
@_metrics
@click.option(
    "--seed-env",
    metavar="NAME",
    help="Pass the seed in this environment variable instead of in the command, for example SEED.",
)
@_out
@_until
@_max_seeds
@options.key("--lanes")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and the planned runs, and start nothing.")
@options.key("--cwd", metavar="{dir}")
@options.key("--allow-shared", is_flag=True, default=None)
@_launching
@click.pass_context
def run(
    ctx: click.Context,
    /,
    config: str | None,
    overrides: tuple[str, ...],
    metrics: str | None,
    seed_env: str | None,
    lanes: str | None,
    out: str | None,
    **asked: Any,
) -> int:
    """Train one model per seed, many at once, and report what the spread between them means.

    \b
      sweep run --seeds 42,123,456
      sweep run my.yaml --seeds 0-9 params.optimizer.lr=0.01
      sweep run --seeds 0-9 -- python train.py --lr 0.1 --seed {seed}

    CONFIG is a YAML file. Without one, the built-in example is trained: an MLP on scikit-learn's digits. KEY=VALUE
    changes a key, for example params.optimizer.lr=0.01; values with commas make a grid. `sweep config` lists all keys.

    Finished runs are not trained again: the same command resumes where the last one stopped, and new seeds are added
    to the existing ones.

    After -- comes any program, as you would type it. {seed}, {dir} (the run's own folder), {device}, {run_id} and
    {params.NAME} are replaced in it, and with --folds {fold} and {folds}.
    """
    command = seeded(ctx.obj["command"], seed_env)
    settings = {key: asked.pop(key) for key in SETTINGS}
    if lanes is not None:
        settings["lanes"] = int(lanes) if lanes.isascii() and lanes.isdecimal() else lanes
    return _launch(configured(config, overrides, command, metrics=metrics, **settings), out, **asked)


@click.command(short_help="Train the missing runs of a directory.", options_metavar="[OPTIONS]")
@click.argument("directory")
@click.option("--seeds", help="Seeds to add to those of the directory: 42,123,456, or 0-9, or both, or @FILE.")
@_until
@_max_seeds
@_metrics
@_launching
@options.trust
def resume(directory: str, metrics: str | None, trust: bool, **asked: Any) -> int:
    """Train the missing runs of DIRECTORY with its stored config, and report.

    \b
      sweep resume runs/digits-mlp
      sweep resume runs/digits-mlp --seeds 0-19

    Finished runs are not trained again. Run the command in the same folder as the first command, because files and
    modules are looked up from there. The directory may come from anywhere, so code that is not part of sweep is named
    first, and runs only with --trust.
    """
    from sweep.launch.start import kept

    settings = {key: asked.pop(key) for key in ("seeds", "until", "max_seeds")}
    collect = None if metrics is None else where_metrics(metrics)
    checked = kept(directory, trust=trust, say=partial(say, err=True), collect=collect, **settings)
    return _launch(checked, directory, **asked)


@click.command("ml-train", short_help="Train one model.", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("config", required=False)
@options.overrides
@click.option("--seed", help="The seed to train. Default: the seed of the config, or 42.")
@_mode
@click.option("--out", metavar="PATH", help="The run directory. Default: runs/NAME.")
@click.option("--lr", help="The learning rate, for example 0.01. Short for params.optimizer.lr=…")
@click.option(
    "--batch_size",
    "--batch-size",
    "batch_size",
    help="Examples per step, for example 64. Short for params.batch_size=…",
)
@click.option(
    "--num_epochs", "--num-epochs", "num_epochs", help="The number of epochs, for example 20. Short for params.epochs=…"
)
@click.option("--retry-failed", is_flag=True, help="Train the seed again if it failed. The old record is kept.")
@options.report_json
@click.option(
    "--metrics",
    metavar="WHERE",
    help="Where to find a program's metrics, for example 'val_acc={number}'. See sweep run --help.",
)
@click.pass_context
def ml_train(
    ctx: click.Context,
    /,
    config: str | None,
    overrides: tuple[str, ...],
    seed: str | None,
    deterministic: bool | None,
    metrics: str | None,
    out: str | None,
    retry_failed: bool,
    as_json: bool,
    **short: str | None,
) -> int:
    """Train one model with the same bits as in a sweep, and add it to the same directory.

    `ml-train --seed 42`, `ml-train --seed 123` and so on train a sweep one seed at a time; `sweep report` then reports
    all of it.
    """
    from sweep.config.explain import SHORT
    from sweep.seeds import parse_seed
    from sweep.store.remote import located

    overrides += tuple(f"{SHORT[name]}={value}" for name, value in short.items() if value is not None)
    checked = configured(config, overrides, ctx.obj["command"], metrics=metrics, deterministic=deterministic)
    # `seed` stays that of the config: with `vary`, the other streams are fixed at it.
    chosen = checked.seed if seed is None else parse_seed(seed, "--seed")
    remote = None if out is None else located(out)[1]
    if remote is not None:
        raise StoreError(
            "ml-train writes to a directory, not to a URL", where=remote.url,
            hint=f"train the same model with: sweep run --seeds {chosen} --out {remote.url}",
        )  # fmt: skip
    checked = checked.model_copy(update={"seeds": (chosen,)})
    return _launch(checked, out, "inline", as_json=as_json, single=True, only=(chosen,), retry_failed=retry_failed)


@click.command(short_help="Read a program's metrics again, without training.", options_metavar="[OPTIONS]")
@click.argument("directory")
@click.option(
    "--metrics", metavar="WHERE",
    help="Where to find the metrics, as in sweep run, for example 'val_acc={number}'. Default: the setting that the "
    "directory keeps.",
)  # fmt: skip
@options.report_json
def collect(directory: str, metrics: str | None, as_json: bool) -> int:
    """Read the metrics of a program's runs again, from the output and the files that they kept.

    \b
      sweep collect runs/train --metrics 'val_acc={number}'
      sweep collect runs/train --metrics metrics.csv

    Nothing is trained. A run that failed because it had no metrics becomes ok if they are found now. The old records
    are kept. If a run did not keep enough output, the command names it and changes nothing.
    """
    from sweep.cli.read import show_report
    from sweep.recollect import collect_of, recollect
    from sweep.store import Store

    store = Store.open(directory)
    if store.manifest.adopted:
        raise StoreError(
            "its runs were adopted, so they have no output here",
            where=directory,
            hint="adopt them again with --replace",
        )
    if store.manifest.experiment.get("target", {}).get("kind") != "command":
        raise StoreError(
            "only the metrics of programs can be read again; recipes and functions report their own",
            where=directory,
        )
    if Path(store.shown) != store.path:
        raise StoreError("metrics can be read again only in a directory on this machine", where=store.shown)
    wanted = collect_of(store.manifest.config.get("collect"))
    if metrics is not None:
        made = {**where_metrics(metrics), **({"predictions": wanted.predictions} if wanted else {})}
        wanted = collect_of(made)
    with Store.lock(store.path):
        for said in recollect(store, wanted):
            say(said, err=True)
    return show_report(Store.open(directory), "json" if as_json else "text")


def _launch(
    config: Config,
    out: str | None,
    engine: str,
    *,
    as_json: bool,
    dry_run: bool = False,
    single: bool = False,
    **asked: Any,
) -> int:
    rebirth(config.deterministic and engine == "inline")
    from sweep.worker import forked

    if engine == "inline" and forked.planned(config) and not dry_run:
        forked.start(deterministic=config.deterministic)  # it loads while the target is looked up
    from sweep.launch.start import ready, start

    if dry_run:
        plan, path, _ = ready(config, out, retrain=asked["retrain"])
        _dry(plan, path, as_json)
        return 0
    launch = start(config, out, engine, **asked)
    from sweep.cli.conduct import conduct
    from sweep.engine import job_address

    if engine == "ray" and asked["address"] is None and (cluster := job_address()):
        say(f"this is a job of the Ray cluster {cluster}: its nodes train the runs", err=True)
    return conduct(launch, as_json=as_json, single=single)


def configured(
    config: str | None,
    overrides: tuple[str, ...],
    command: Sequence[str] = (),
    *,
    metrics: str | None = None,
    **settings: Any,
) -> Config:
    """Return the config of a command line; its first word may be an override already.

    command: the words after `--`.
    """
    from sweep.config import load

    if config is not None and "=" in config and not os.path.exists(config):
        overrides, config = (config, *overrides), None
    if command:
        from sweep.target.command import named

        settings["command"] = list(command)
        settings = settings if config is not None else named(settings, overrides)
    if metrics is not None:
        settings["collect"] = where_metrics(metrics)
    return load(config, overrides, **settings)


def seeded(command: Sequence[str] | None, variable: str | None) -> list[str]:
    """Return the words of a command that finds its seed in a variable. Raises: ConfigError."""
    words = list(command or ())
    if variable is None:
        return words
    if not words or not (variable.isidentifier() and variable.isascii()):
        raise ConfigError(
            f"{variable!r} cannot be the name of a variable" if words else "there is no program after --",
            where="--seed-env",
            hint="write for example sweep run --seeds 0-9 --seed-env SEED -- python train.py",
        )  # fmt: skip
    return ["env", f"{variable}={{seed}}", *words]


def where_metrics(text: str) -> dict[str, str]:
    """Return the entry of `collect` that `--metrics` is short for. Raises: ConfigError."""
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
        f"{text!r} does not say where the metrics are", where="--metrics",
        hint="give FILE.json, FILE.csv, tensorboard:FOLDER or a pattern such as 'acc={number}'",
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
