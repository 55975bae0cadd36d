"""run() and open(): what a sweep answers, in Python and in a notebook."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config import Config, from_dict, load
from sweep.errors import ConfigError, StoreError, printable
from sweep.launch import Begun, Event, Finished, Launch, Retried, Said
from sweep.start import ready, start
from sweep.store import Reading, Store
from sweep.target.command import name as name_of_command

if TYPE_CHECKING:
    import pandas as pd

    from sweep.comparison import Comparison
    from sweep.report import Report
    from sweep.report.worth import Worth


class Results:
    """A run directory, read. Nothing is loaded before it is asked for; nothing in it is ever executed."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Path:
        return self.store.path

    @cached_property
    def _reading(self) -> Reading:
        return Reading.of(self.store)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a run: variant, task, seed, repeat, status, failure and a column for each metric."""
        from sweep.aggregate import frame

        return frame(self._reading)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row a run and logged step."""
        from sweep.aggregate import history

        return history(self._reading)

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """For every metric n, mean, sd, Student t interval, min, max, and k of n failed."""
        from sweep.aggregate import summary, test_to_train

        vary = self.store.manifest.experiment.get("vary") or ()
        ratio = test_to_train(self._reading.scan(), vary) if vary else None
        return summary(self.frame, level=level, ratio=ratio)

    @cached_property
    def report(self) -> Report:
        """Everything `sweep report` says, as data."""
        from sweep.report import build

        return build(self._reading)

    def compare(
        self,
        *others: Results | str | os.PathLike[str],
        baseline: str | None = None,
        metric: str | None = None,
        paired: bool = True,
        margin: float | None = None,
        require: Sequence[str] = (),
        max_failures: int = 0,
        group_by: Sequence[str] = (),
        fresh: bool = False,
        level: float = 0.95,
    ) -> Comparison:
        """Compare with other directories, or without any the variants of this one.

        Parameters
        ----------
        others : results or their directories; differences are this - other.
        baseline : compare each with this one: a variant, a directory, or its place from 1.
        metric : instead of the primary metric.
        paired : pair by the seeds that both plan; False is Welch's t.
        margin : differences within ± this count as equal.
        require, max_failures : gates, such as "test/accuracy >= base - 0.005", and the failures they allow.
        group_by : cut the grid by these parameters only.
        fresh : only the seeds of the last extension.
        level : of every interval, test and gate.

        Raises
        ------
        ConfigError, StatisticsError
        """
        from sweep.comparison import compare

        more = [other._reading if isinstance(other, Results) else Reading.of(other) for other in others]
        return compare(
            self._reading, *more, baseline=baseline, metric=metric, paired=paired, margin=margin, require=require,
            max_failures=max_failures, group_by=group_by, fresh=fresh, level=level,
        )  # fmt: skip

    def ensemble(self, **options: Any) -> Worth:
        """All finished members as one ensemble, and what it is worth: `.frame`, `.scores`, `.differences`.

        options: as `sweep.report.worth.worth` takes them: split, variant, task, members, allow_missing,
        calibrate, select, margin, level. Raises: EnsembleError.
        """
        from sweep.report.worth import worth

        return worth(self._reading, **options)

    def _repr_html_(self) -> str:
        from sweep.report.notebook import fragment

        return fragment(self.report, list(self._reading.scan()))

    def __repr__(self) -> str:
        from sweep.report import text

        return text(self.report)


def open(path: str | os.PathLike[str]) -> Results:
    """The results in a run directory: finished, running or copied from elsewhere.

    Raises: StoreError when there is none.
    """
    return Results(Store.open(path))


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | Callable[..., Any] | Config | None = None,
    *overrides: str,
    seeds: Iterable[int] | str | None = None,
    out: str | os.PathLike[str] | None = None,
    engine: str = "ray",
    address: str | None = None,
    jobs: int | None = None,
    retry_failed: bool = False,
    retrain: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Results:
    """Train what is missing and return the results; the same as `sweep run`.

    config: a YAML file, a mapping of its keys, a training function `train(run, **params)`, or None for the
    embedded example. overrides: "params.optimizer.lr=0.01". settings: any key of a config, e.g.
    deterministic=True or params={"lr": 0.1}. out: the run directory, or a URL to keep it at. engine: "ray" or
    "inline". retry_failed: train failed seeds again. retrain: train all that the directory holds again, as is asked
    now; old records are kept and counted.

    Raises: ConfigError, TargetError, StoreError before anything is started. A run that fails does not raise:
    see `results.frame.status`.
    """
    function = config if callable(config) and not isinstance(config, Config) else None
    if isinstance(seeds, int):
        raise ConfigError(
            f"seeds={seeds} may mean {seeds} seeds or seed {seeds}", where="seeds",
            hint=f"seeds=range({seeds}), or seeds=[{seeds}]",
        )  # fmt: skip
    if seeds is not None:
        settings["seeds"] = seeds if isinstance(seeds, str) else list(seeds)
    checked = _config(config, overrides, settings, function)
    found = ready(checked, out, function, retrain=retrain)
    launch = start(found, engine, address=address, jobs=jobs, retry_failed=retry_failed, retrain=retrain)
    show, end = (on_event, _nothing) if on_event is not None else _shown(launch)
    try:
        for event in launch:
            show(event)
    finally:
        launch.close()
        end()
    if launch.uncopied:
        raise StoreError(f"trained, and not all copied: {launch.uncopied}", where=os.fspath(found.path))
    return open(found.path if found.remote is None or out is None else out)


def _nothing() -> None:
    """The end of a show that leaves nothing behind."""


def _shown(launch: Launch) -> tuple[Callable[[Event], None], Callable[[], None]]:
    """What shows a launch's events where nobody else does, and ends the show: in a notebook a live display."""

    def quiet(event: Event) -> None:
        if isinstance(event, Begun) and event.todo == 0:
            print(event.nothing)

    # IPython is never imported to find out whether this is one of its kernels.
    ipython: Any = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    if not hasattr(shell, "kernel"):
        return quiet, _nothing
    from sweep.report.live import ROWS, running
    from sweep.report.notebook import Cell

    config = launch.prepared.config
    cell = Cell(config.name, config.primary, "starting Ray" if launch.own_process else "starting")

    def show(event: Event) -> None:
        quiet(event)
        if isinstance(event, Begun):
            cell.begin(event.store.scan())
        elif isinstance(event, Finished) and event.outcome.status != "interrupted":
            cell.ended(event.outcome.key, event.outcome.status, dict(event.outcome.metrics), event.outcome.seconds)
        elif isinstance(event, (Said, Retried)):
            print(printable(event.text if isinstance(event, Said) else f"{event.key}: tried again ({event.cause})"))
        elif launch.store is not None:
            keys = launch.in_flight()
            cell.update(running(launch.store, keys, ROWS), len(keys))

    return show, cell.close


def _config(
    config: Any, overrides: tuple[str, ...], settings: dict[str, Any], function: Callable[..., Any] | None
) -> Config:
    if isinstance(config, Config):
        return from_dict({**config.model_dump(mode="json", by_alias=True), **settings})
    if function is not None:
        name = getattr(function, "__name__", "function").strip("<>")
        reference = f"{getattr(function, '__module__', '')}:{name}"
        return load(None, overrides, **{"name": name, "train": reference, **settings})
    if config is None or isinstance(config, Mapping):
        given = {**(config or {}), **settings}
        if not any(word.partition("=")[0].strip() == "name" for word in overrides):
            given = {**_named(given.get("command")), **given}
        return load(None, overrides, **given)
    if isinstance(config, (str, os.PathLike)):
        return load(Path(config), overrides, **settings)
    raise ConfigError(f"a config is a file, a mapping or a function, not {type(config).__name__}")


def _named(command: Any) -> dict[str, str]:
    """What a sweep of a command is called that was given no name, as on the command line."""
    words = command if isinstance(command, (list, tuple)) else ()
    sound = bool(words) and all(isinstance(word, str) and word for word in words)
    return {"name": name_of_command(words)} if sound else {}
