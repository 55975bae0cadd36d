"""The conversion of a config to a plan: all references are found and checked, and nothing is started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sweep.config import Config, to_dict
from sweep.config.yaml import Float, Int
from sweep.errors import ConfigError, EnvironmentRefused
from sweep.job import Job
from sweep.metrics import require
from sweep.plan import SPLIT, Cell, Plan, Target, cells_of, stream_seed
from sweep.redaction import redact
from sweep.stats import parse_until
from sweep.store import Manifest
from sweep.store.manifest import FEWER_RUNS, MOST, too_many
from sweep.target import command as argv
from sweep.target.function import call, require_run, resolve
from sweep.target.inputs import inputs_of, watched
from sweep.target.params import bind, check_params
from sweep.target.source import built_in, files_reached, mentions, source_digest, source_text
from sweep.target.trust import BUILT_IN_RECIPES


def prepare(config: Config, function: Callable[..., Any] | None = None) -> Plan:
    """Return the plan of a config: find the target, check its parameters, hash the data, resolve the device.

    Raises: ConfigError, TargetError, EnvironmentRefused.
    """
    device = resolve_device(config.device)
    target, called = _target(config, function)
    _require_sense(config, target, called)
    files = files_reached(called) if called is not None else argv.files(config.command or ())
    cells: list[Cell] | None = None
    while cells is None:
        try:
            cells = [_cell(cell, target, called, config, device, files) for cell in cells_of(config)]
        except ConfigError as refused:
            config, before = _as_written(config, refused), config
            if config == before:
                raise
    inputs = None
    if config.data or config.data_version is not None or not built_in(target.reference):
        own = None if built_in(target.reference) else called
        inputs = inputs_of(config.data, config.data_version, _words(config, cells), own)
    made = Plan(
        config, target, tuple(cells), device, inputs, _pickled(function),
        source=source_text(function) if function is not None else "",
        watched=watched(files, (inputs or {}).get("files", {})),
    )  # fmt: skip
    if len(made) > MOST:
        raise ConfigError(too_many(len(made)), where="seeds", hint=FEWER_RUNS)
    return made


def manifest_of(plan: Plan) -> Manifest:
    """Return the manifest of a plan, for its directory."""
    shown = redact(to_dict(plan.config))
    if len(plan.cells) == 1:
        shown["params"] = redact(dict(plan.cells[0].params))
    return Manifest(
        plan.config.name, shown, plan.experiment(), tuple(plan.config.seeds), versions=versions(), source=plan.source
    )


def job_of(plan: Plan) -> Job:
    """Return the job for workers that train the runs of a plan from this folder."""
    config = plan.config
    return Job(
        folder=os.getcwd(), own_folder=config.cwd is not None, function=plan.function, collect=config.collect,
        every=(config.checkpoint.every_epochs or 0, config.checkpoint.every_seconds or 0.0), timeout=config.timeout,
        cpus=config.resources.cpus or config.threads, gpus=config.resources.gpus, watched=plan.watched,
    )  # fmt: skip


def _words(config: Config, cells: Iterable[Cell]) -> list[str]:
    """Return the arguments of a command for each variant, and the files that its shell words name."""
    words = config.command
    if not words:
        return []
    filled = (argv.fill(word, argv.params_by_name(cell.params)) for cell in cells for word in words[1:])
    return [*dict.fromkeys(filled), *map(os.path.relpath, argv.files_in_shell(words))]


def _target(config: Config, function: Callable[..., Any] | None) -> tuple[Target, Callable[..., Any] | None]:
    if function is not None:
        name = ":".join(getattr(function, part, "") for part in ("__module__", "__qualname__"))
        require_run(function, name)
        return Target("function", name, digest=source_digest(function)), function
    if config.command:
        require(config.collect)
        return argv.resolve(config), None
    if config.train:
        return resolve("function", config.train)
    return resolve("recipe", config.recipe or "")


def _require_sense(config: Config, target: Target, called: Callable[..., Any] | None) -> None:
    """Refuse settings that would have no effect, but would appear in the report.

    Raises: ConfigError.
    """
    if target.kind != "recipe" and config.checkpoint.best:
        raise ConfigError(
            f"best({config.checkpoint.best}) chooses an epoch, which sweep can do only for recipes",
            where="checkpoint", hint="let the training code keep its best epoch, chosen on val, and report that one",
        )  # fmt: skip
    if config.cwd and target.kind == "recipe":
        raise ConfigError(
            "has no effect, because a recipe writes no files into this folder", where="cwd", hint="leave it out"
        )
    above = [word for word in config.command or () if ".." in Path(word.rpartition("=")[2]).parts]
    if config.cwd and above:
        raise ConfigError(
            f"{above[0]} leads out of this folder, so a run that works in its own folder would not find it",
            where="cwd", hint=f"give its absolute path: {os.path.abspath(above[0].rpartition('=')[2])}",
        )  # fmt: skip
    if config.resources.gpus > 1 and target.kind == "recipe":
        raise ConfigError(
            f"a recipe trains on one GPU, but {config.resources.gpus:g} are requested", where="resources.gpus",
            hint="leave it out: lanes train many seeds on each GPU; only functions and commands can use several",
        )  # fmt: skip
    for key, asked in (("lanes", isinstance(config.lanes, int)), ("vectorize", bool(config.vectorize))):
        if asked and target.kind != "recipe":
            raise ConfigError(
                f"a {target.kind} has its own training loop; only seeds of a recipe can train together", where=key,
                hint="leave it out (--jobs sets how many runs train at once), or write a recipe",
            )  # fmt: skip
    if target.kind == "recipe":
        return
    who = target.reference or "the command"
    if config.vary and target.kind == "command":
        raise ConfigError(
            "a program gets only its seed, so everything in it would vary", where="vary",
            hint="leave it out, or turn the training into a function, which can use run.streams",
        )  # fmt: skip
    if config.vary and (called is None or not mentions(called, "streams")):
        raise ConfigError(
            f"{who} never uses run.streams, so everything in it would vary", where="vary",
            hint='seed each part of a function with its stream, e.g. torch.manual_seed(run.streams["init"])',
        )  # fmt: skip
    told = any("{fold}" in word for word in target.argv) or (called is not None and mentions(called, ".fold"))
    if config.folds and not told:
        raise ConfigError(
            f"{who} never uses its fold, so all folds would be the same run", where="folds",
            hint="test on fold run.fold of run.folds, counted from 0, and train on the others; in a command, write "
            "{fold} and {folds}",
        )  # fmt: skip


def _cell(
    cell: Cell, target: Target, called: Callable[..., Any] | None, config: Config, device: str, files: list[Path]
) -> Cell:
    """Return a cell with its parameters checked and its data hashed. files: the files of the data are added to it."""
    if called is None:
        return cell
    params, made = dict(cell.params), None
    keep = config.checkpoint.keep
    if target.kind == "recipe" and keep != "final" and params.setdefault("checkpoint", keep) != keep:
        raise ConfigError(
            f"checkpoint is {keep!r}, but params.checkpoint is {params['checkpoint']!r}",
            where="checkpoint", hint="set only one of them",
        )  # fmt: skip
    where = "params" + (f" of variant {cell.variant}" if cell.variant else "")
    params = check_params(called, params, kind=target.kind, where=where)
    if target.reference in BUILT_IN_RECIPES:
        from sweep.train.batches import require_batches
        from sweep.train.splits import Fold

        splits: list[int | Fold] = [Fold(number, config.folds) for number in range(config.folds)]
        if SPLIT in config.vary:
            splits = [stream_seed(seed, SPLIT) for seed in config.seeds]
        require_batches(params, _task(target), where=where, splits=splits)
        _require_measured(config, params, _task(target), where)
    elif target.kind == "recipe":
        from sweep.train.check import check

        made = check(_made(called, params, target.reference), target.reference, device, vectorize=config.vectorize)
        files += made.source.files() if made.source is not None else ()
    return replace(cell, params=params, data=_data(target, params, made))


def _require_measured(config: Config, params: Mapping[str, Any], task: str, where: str) -> None:
    """Raise ConfigError for settings with a metric that a built-in recipe does not measure."""
    from sweep.train.params import parse_checkpoint
    from sweep.train.recipes import MEASURED

    followed = ("val/loss", f"val/{MEASURED[task][0]}")
    every = (*(f"{split}/{name}" for split in ("test", "val") for name in MEASURED[task]), "val/loss", "train/loss")
    for key, name, known in (
        ("primary", config.primary, every),
        ("until", parse_until(config.until).metric if config.until else None, every),
        (f"{where}.checkpoint", parse_checkpoint(params.get("checkpoint", "final")), followed),
        (f"{where}.stop_early.metric", (params.get("stop_early") or {}).get("metric"), followed),
    ):
        if name is not None and name not in known:
            often = " after an epoch" if known is followed else ""
            raise ConfigError(
                f"this recipe does not measure {name}{often}", where=key, hint=f"it measures {', '.join(known)}"
            )


def _as_written(config: Config, refused: ConfigError) -> Config:
    """Return the config with numbers as the text that was typed (123, 3.10), if text was required."""
    cause = refused.__cause__
    details = cause.errors(include_url=False) if isinstance(cause, ValidationError) else []
    paths = {("params", *each["loc"]) for each in details if each["type"] in ("string_type", "literal_error")}

    def text(value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, Int | Float) and path in paths:
            return value.text
        if isinstance(value, Mapping):
            return {key: text(inner, (*path, *key.split("."))) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [text(inner, (*path, place)) for place, inner in enumerate(value)]
        return value

    grid = {key: [text(value, tuple(key.split("."))) for value in values] for key, values in config.grid.items()}
    tasks = {name: text(task, ()) for name, task in config.tasks.items()}
    return config.model_copy(update={"params": text(config.params, ("params",)), "grid": grid, "tasks": tasks})


def _made(function: Callable[..., Any], params: Mapping[str, Any], reference: str) -> Any:
    """Return the recipe that a function makes. Raises: ConfigError with the user's part of the traceback."""
    return call(lambda: function(**bind(function, params, kind="recipe")), where=reference, failure="calling it failed")


def data_digest_of(target: Target, params: Mapping[str, Any], function: Callable[..., Any]) -> str:
    """Return the identity of the data that a recipe trains on; "" if it is unknown."""
    own = target.kind == "recipe" and target.reference not in BUILT_IN_RECIPES
    return _data(target, params, _made(function, params, target.reference) if own else None)


def _data(target: Target, params: Mapping[str, Any], made: Any) -> str:
    if getattr(made, "source", None) is not None:
        return str(made.source.content())
    if target.kind != "recipe":
        return ""
    from sweep.train.params import Data
    from sweep.train.splits import identity

    try:
        data = Data.model_validate(params["data"])
    except (KeyError, ValueError):  # in a recipe of the user `data` may be anything
        return ""
    return identity(data, _task(target))


def _task(target: Target) -> Literal["classification", "regression"]:
    """Return the kind of task of a recipe; any that is not the built-in classifier counts as regression."""
    return "classification" if target.reference == BUILT_IN_RECIPES[0] else "regression"


def _pickled(function: Callable[..., Any] | None) -> bytes | None:
    """Return a function pickled by value, because workers cannot import it."""
    if function is None:
        return None
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:
        raise ConfigError(
            f"the function cannot be sent to a worker: {error}", where=function.__qualname__,
            hint="create open files, locks and the like inside the function",
        ) from error  # fmt: skip


def resolve_device(device: str) -> str:
    """Return the device, with `auto` resolved. Driver files are checked first, because importing torch takes a second.

    Raises: EnvironmentRefused if cuda is requested and absent.
    """
    if device == "cpu":
        return "cpu"
    there = any(os.path.exists(path) for path in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
    if there:
        import torch

        there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if not there:
        raise EnvironmentRefused("there is no CUDA device here", where=f"device: {device}", hint="use device: auto")
    return device


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of the packages that matter for results, without importing them."""
    import platform

    found = {"python": platform.python_version()}
    for name in ("seed-sweep", "torch", "numpy", "ray", "pandas", "scipy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "" if find_spec(name.replace("-", "_")) is None else "unknown"
    return {name: version for name, version in found.items() if version}
