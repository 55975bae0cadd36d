"""From a config to a launch, for `sweep run`, `ml-train` and `sweep.run`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from sweep import forkserver
from sweep.config import Config, from_dict
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.engine import Engine, RayEngine, inline, job_address, require_memory
from sweep.errors import ConfigError, EnvironmentRefused, StoreError
from sweep.launch import Launch
from sweep.launch.bundles import gpus_here
from sweep.plan import Plan, Target, grown
from sweep.prepare import manifest_of, prepare
from sweep.redaction import NOT_RECORDED, redact
from sweep.report.commands import repeatable, resumable, resume
from sweep.seeds import parse_seeds
from sweep.store import Store
from sweep.store.remote import Remote, located
from sweep.target.trust import remember, require_trust
from sweep.worker import forked


def ready(
    config: Config,
    out: str | os.PathLike[str] | None = None,
    function: Callable[..., Any] | None = None,
    *,
    retrain: bool = False,
) -> tuple[Plan, Path, Remote | None]:
    """Return the plan of a config, its directory, and the remote copy if that is a URL. Nothing is started.

    All references are found and checked, also against an existing directory: values of a grid join the existing ones.

    out: the run directory or a URL; runs/NAME by default. function: the function of `config.train`, if it cannot be
    imported. retrain: all runs of the directory are trained again.

    Raises: ConfigError, TargetError, EnvironmentRefused, StoreError.
    """
    path, remote = located(out if out is not None else Path("runs") / config.name)
    if remote is not None:
        remote.begin()
    if Store.exists(path):
        config = grown(config, Store.open(path).manifest.config.get("grid") or {})
    plan = prepare(config, function)
    Store.check(path, None if retrain else manifest_of(plan))
    return plan, path, remote


def kept(
    directory: str | os.PathLike[str],
    *,
    seeds: str | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Config:
    """Return the config in a directory, to train its missing runs.

    seeds: added to the planned ones. settings: keys of the config that are changed; None leaves one as it is. trust,
    say: see `require_trust`, because the directory may come from anywhere.

    Raises: StoreError, TargetError, ConfigError, before anything is imported.
    """
    store = Store.open(directory)
    manifest = store.manifest
    target = Target.from_json(manifest.experiment["target"])
    if not repeatable(manifest.experiment["target"]):
        raise StoreError(
            f"{target.reference} was defined in a notebook or script, and only its text was kept",
            where=store.shown, hint=f"call it there again: {resume(manifest, store.shown)}",
        )  # fmt: skip
    if not resumable(manifest):
        raise StoreError(
            NOT_RECORDED, where=store.shown,
            hint=f"give the config again: {resume(manifest, store.shown)}",
        )  # fmt: skip
    require_trust(target, trust, say)
    every = dict.fromkeys([*manifest.seeds, *(parse_seeds(seeds, "--seeds") if seeds is not None else ())])
    asked = {key: value for key, value in settings.items() if value is not None}
    resolved = {"device": manifest.experiment["device"], "seeds": [*every]}
    if target.kind != "recipe":
        resolved["lanes"] = "auto"  # earlier versions stored a number and ignored it
    config = from_dict({**manifest.config, **resolved, **asked}, where=store.shown)
    # The target of the plan is trusted, but the one of the config would be imported or started.
    kind: Literal["command", "function", "recipe"] = (
        "command" if config.command else "function" if config.train else "recipe"
    )
    if Target(kind, config.train or config.recipe or "", config.command or (), target.digest) != target:
        raise StoreError(
            "its config and its plan name different code to train", where=store.shown,
            hint="sweep.json was edited; give the config again with sweep run",
        )  # fmt: skip
    return config


def start(
    config: Config,
    out: str | os.PathLike[str] | None = None,
    engine: str = "ray",
    function: Callable[..., Any] | None = None,
    *,
    address: str | None = None,
    only: Sequence[int] | None = None,
    retrain: bool = False,
    **options: Any,
) -> Launch:
    """Return a launch whose engine is already starting.

    out, function, retrain: see `ready`. only: the seeds of an `ml-train`. options: see `Launch`.
    In a job of a Ray cluster, the runs go to that cluster, unless an address names another one.

    Raises: ConfigError, TargetError, EnvironmentRefused, StoreError.
    """
    plan, path, remote = ready(config, out, function, retrain=retrain)
    address = address or job_address()
    more = None
    if plan.config.until is not None and only is None:
        from sweep.analysis.adaptive import waves  # imported only for a rule, because it loads the statistics

        more = waves(plan, path)
    prove = None
    if plan.config.deterministic and only is None:  # fast mode promises nothing
        from sweep.verify.canary import Canary

        prove = Canary(plan, local=address is None)
    made, close = make_engine(plan.config, engine, address)
    remember(plan.target, [redact(cell.params) for cell in plan.cells])
    return Launch(
        plan, path, made, close=close, own_process=engine == "ray", only=only, more=more, prove=prove, remote=remote,
        retrain=retrain, **options,
    )  # fmt: skip


def make_engine(config: Config, name: str, address: str | None = None) -> tuple[Engine, Callable[[], None]]:
    """Return an engine by name, already starting, and the function that closes it."""
    forks = forked.planned(config)
    if name == "inline":
        if config.resources.gpus > 1 and gpus_here() < config.resources.gpus:
            raise EnvironmentRefused(
                f"one run needs {config.resources.gpus:g} GPUs; this machine has fewer", where="resources.gpus",
                hint="lower resources.gpus, or join a Ray cluster with larger nodes: --address HOST:6379",
            )  # fmt: skip
        if forks:
            forked.start(deterministic=config.deterministic)
        elif config.command:
            forkserver.start((), {})
        return inline, lambda: None
    if name != "ray":
        raise ConfigError(f"there is no engine {name!r}", where="engine", hint="use ray or inline")
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            f"{address} is the address of a Ray client: its runs would be lost if the connection broke",
            where="address",
            hint="run sweep on the cluster: ray job submit --address http://HOST:8265 -- sweep run --address auto, "
            "or name its head: --address HOST:6379",
        )  # fmt: skip
    if address is None:
        require_memory()
    environment = ENVIRONMENT_FOR_DETERMINISM if config.deterministic else {}
    made = RayEngine(address, environment=environment, forks=forks)
    made.start()
    return made, made.close
