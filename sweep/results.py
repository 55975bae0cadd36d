"""The Python API: `run`, `open`, `adopt` and `Results`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.config import Config, from_dict, load
from sweep.errors import ConfigError, StoreError, printable
from sweep.launch import Begun, Event, Finished, Launch, Retried, Said
from sweep.launch.start import start
from sweep.store import Reading, Store
from sweep.target.command import named

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sweep.analysis.comparison import Comparison
    from sweep.ensemble.select import Metric
    from sweep.report import Report
    from sweep.report.drawing import Size
    from sweep.report.ensemble import Worth


class Results:
    """The results in a run directory. They are loaded when you ask for them. Code in the directory never runs.

    A notebook shows them as a report; `print` shows the text of `sweep report`.

    Attributes
    ----------
    path : Path
    frame : DataFrame, one row per planned run
    history : DataFrame, one row per run and logged step
    report : the content of `sweep report`, as data
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Path:
        """Return the run directory."""
        return self.store.path

    @cached_property
    def _reading(self) -> Reading:
        return Reading.of(self.store)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return one row per planned run, with task, variant, seed, repeat, status, failure and a column per metric.

        A failed run keeps the metrics that it reported: filter on `status`, or use `summary`, before taking a mean.
        A metric that a run did not report is NaN. `seconds` is wall time.
        """
        from sweep.analysis.frames import frame

        return frame(self._reading)

    @cached_property
    def history(self) -> pd.DataFrame:
        """Return one row per run and logged step, with task, variant, seed, repeat, step and a column per metric."""
        from sweep.analysis.frames import history

        return history(self._reading)

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Summarise every metric over the seeds that finished, with the number of failures.

        Parameters
        ----------
        level : float, default 0.95
            Coverage of the Student t interval, between 0 and 1.

        Returns
        -------
        DataFrame
            One row per task, variant and metric. In the unit of the metric: mean, sd, low and high (the interval),
            min, max. Counts of seeds (repeats and folds averaged): n, missing, planned = ok + failed + lost + pending.
            sd and interval are NaN at n = 1 (with folds, only sd); `method` says why.

        Raises
        ------
        StatisticsError
            The name of a metric collides with a column, or `level` is not between 0 and 1.
        """
        from sweep.analysis.frames import summary, test_to_train

        vary = self.store.manifest.experiment.get("vary") or ()
        ratio = test_to_train(self._reading.scan(), vary)
        return summary(self.frame, level=level, ratio=ratio, folds=self.store.manifest.folds)

    @cached_property
    def report(self) -> Report:
        """Return the content of `sweep report` as data; `sweep.report` has `text`, `markdown` and `latex` for it.

        A part that cannot be made is replaced by a note; nothing is raised.
        """
        from sweep.report import build

        return build(self._reading, curves=True)

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
        """Compare with other directories or, without any, compare the variants of this one.

        Parameters
        ----------
        *others : Results or path
            The directories to compare with; a difference is the value of this one minus that of the other.
        baseline : str, optional
            Compare each configuration only with this one: a variant, a directory, or its position, counted from 1.
        metric : str, optional
            The metric to compare. Default: the primary metric.
        paired : bool, default True
            Pair by the seeds that both plan; False uses Welch's t test.
        margin : float, optional
            Differences within ±`margin` count as equal, in the unit of the metric.
        require : sequence of str
            Rules of a gate, such as "test/accuracy >= base - 0.005".
        max_failures : int, default 0
            The number of failed runs that a gate allows.
        group_by : sequence of str
            Group the grid by these parameters only.
        fresh : bool, default False
            Use only the seeds that were added last, after results existed.
        level : float, default 0.95
            Confidence level of every interval, test and gate.

        Returns
        -------
        Comparison
            `.pairs`, each with its difference, interval, p values and verdict; `.checks`, the results of the gates.

        Raises
        ------
        ConfigError
            An option names something that does not exist.
        StatisticsError
            There is nothing to compare, or the goal of the metric (max or min) is unknown.
        """
        from sweep.report.comparison import compare

        more = [other._reading if isinstance(other, Results) else Reading.of(other) for other in others]
        return compare(
            self._reading, *more, baseline=baseline, metric=metric, paired=paired, margin=margin, require=require,
            max_failures=max_failures, group_by=group_by, fresh=fresh, level=level,
        )  # fmt: skip

    def ensemble(
        self,
        *,
        split: str = "test",
        variant: str | None = None,
        task: str | None = None,
        members: Sequence[str | int] | None = None,
        allow_missing: bool = False,
        calibrate: bool = False,
        select: Metric | Literal["greedy"] | None = None,
        margin: float | Mapping[str, float] | None = None,
        level: float = 0.95,
    ) -> Worth:
        """Average the finished members as one ensemble, and assess it.

        Parameters
        ----------
        split : str, default "test"
            The split whose stored predictions are scored.
        variant, task : str, optional
            Required if there are several.
        members : sequence of seeds or names, optional
            For example `[0, 1]` or `["seed0"]`. Default: all.
        allow_missing : bool, default False
            Leave out members that failed or saved no predictions.
        calibrate : bool, default False
            Return calibrated predictions: fitted on val, or cross-fitted if no val was saved.
        select : metric or "greedy", optional
            Select members greedily on val by this metric ("greedy": by NLL).
        margin : float or mapping, optional
            Report how many members are at most this much worse than all members, in the unit of NLL or RMSE, or of each
            named metric.
        level : float, default 0.95
            Confidence level of every interval.

        Returns
        -------
        Worth
            `.frame`, one row per example with probabilities (or mean and std) and uncertainties in nats (or squared
            units of the target); `.scores` and `.differences`, one row per metric.

        Raises
        ------
        EnsembleError
            Members are missing, do not match, or saved no predictions.
        """
        from sweep.report.ensemble import worth

        return worth(
            self._reading, split=split, variant=variant, task=task, members=members, allow_missing=allow_missing,
            calibrate=calibrate, select=select, margin=margin, level=level,
        )  # fmt: skip

    def plot(
        self,
        kind: Literal["seeds", "curves", "differences", "profiles", "progress"] = "seeds",
        metric: str | None = None,
        *,
        level: float = 0.95,
        size: Size = "screen",
    ) -> Figure:
        """Draw a picture of the results, as in the HTML page.

        Parameters
        ----------
        kind : {"seeds", "curves", "differences", "profiles", "progress"}
            The value of each seed with the mean and its interval; learning curves with their band; the differences of
            variants with their intervals; for several tasks with `references`, the performance profiles, and the
            interquartile mean at each step of training. `sweep.report.ensemble_figures` draws ensembles.
        metric : str, optional
            Default: the primary metric, or for curves the logged metric that is closest to it.
        level : float, default 0.95
            Confidence level of the intervals.
        size : {"screen", "column", "page"}
            For a notebook, or one or both columns of a paper.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; `sweep.report.figures.save(figure, "seeds.pdf")` writes it.

        Raises
        ------
        StatisticsError
            No run reports the metric, or there is nothing to compare.
        ConfigError
            There is no picture of that kind.
        """
        from sweep.analysis import histories
        from sweep.analysis.frames import metric_names
        from sweep.report import figures

        config = self.store.manifest.config
        if kind == "differences":
            return figures.forest(self.compare(metric=metric, level=level), size=size)
        if kind in ("profiles", "progress"):
            from sweep.report import build

            made = build(self._reading, level=level, curves=kind == "progress")
            if kind == "profiles":
                return figures.profiles(made.across, size=size)
            return figures.progress(made.progress, size=size)
        called = self.report.called
        if kind == "seeds":
            return figures.members(
                self.frame, metric or self.report.primary, level=level, goals=config.get("goals"),
                vary=self.report.vary, ratio=self.report.ratio, folds=self.report.folds, called=called, size=size,
            )  # fmt: skip
        if kind != "curves":
            raise ConfigError(
                f"there is no picture {kind!r}", hint="choose seeds, curves, differences, profiles or progress"
            )
        logged = metric_names(self.history)
        wanted = metric or next(iter(histories.preferred(logged, self.report.primary)), self.report.primary)
        return figures.curves(
            self.history, wanted, runs=self.frame, level=level, goals=config.get("goals"), called=called, size=size
        )  # fmt: skip

    def _repr_html_(self) -> str:
        from sweep.report.html import fragment

        return fragment(self.report, list(self._reading.scan()))

    def __str__(self) -> str:
        from sweep.report import brief_text

        return brief_text(self.report)

    def __repr__(self) -> str:
        """Return only the name and the path, because reading a directory of many runs takes a while."""
        planned = self.store.manifest
        variants = len(planned.cells)
        of = f", {variants} variants" if variants > 1 else ""
        return f"<Results of {planned.name!r} in {self.store.shown!r}: {len(planned.seeds)} seeds{of}>"


def open(path: str | os.PathLike[str]) -> Results:
    """Open a run directory that is complete, running or copied from elsewhere. Code in it never runs.

    Parameters
    ----------
    path : path or URL of a run directory

    Returns
    -------
    Results

    Raises
    ------
    StoreError
        There is no run directory at `path`, or it cannot be read.
    """
    return Results(Store.open(path))


def adopt(
    frame: pd.DataFrame,
    *,
    seed: str | None = None,
    variant: str | Sequence[str] | None = None,
    task: str | None = None,
    metrics: str | Sequence[str] = (),
    step: str | None = None,
    out: str | os.PathLike[str] = "runs/adopted",
    primary: str | None = None,
    goals: Mapping[str, str] | None = None,
    references: Mapping[str, Sequence[float]] | None = None,
    replace: bool = False,
) -> Results:
    """Import a table of existing results into a run directory, like `sweep adopt`.

    Parameters
    ----------
    frame : DataFrame
        One row per run, or one per run and step.
    seed : str, optional
        The column of the seed. Default: "seed".
    task : str, optional
        The column of the data set. Default: "task".
    variant : str or sequence of str, optional
        The columns that tell variants apart. Default: the settings that differ between runs.
    metrics : str or sequence of str, optional
        The columns of the metrics. Default: those with the usual names of metrics.
    step : str, optional
        The column of the step.
    out : path, default "runs/adopted"
        The run directory. Runs that are already there are kept.
    primary : str, optional
        The primary metric.
    goals : mapping, optional
        Whether larger ("max") or smaller ("min") is better, for metrics that sweep does not know: {"score": "max"}.
    references : mapping, optional
        For each task, the scores that are normalised to 0 and to 1, to report all tasks together.
    replace : bool, default False
        Import changed runs again. Their old records are kept.

    Returns
    -------
    Results

    Raises
    ------
    ConfigError
        A column is missing, or the table is ambiguous.
    StoreError
        The directory cannot be written, or a run has changed and `replace` is False.
    """
    from sweep.adoption import adoption, of_frame, take
    from sweep.adoption.runs import Roles

    names = {"seed": seed, "variant": variant, "task": task, "metrics": metrics or None, "step": step}
    variants = (variant,) if isinstance(variant, str) else None if variant is None else tuple(variant)
    columns = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    given = {"primary": primary, "goals": goals, "references": references}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value}
    said = [f"{name}={value!r}" for name, value in {**names, **settings, "out": os.fspath(out)}.items() if value]
    source = of_frame(frame, Roles(seed, task, variants), metrics=columns, step=step)
    plan = adoption([source], Path(out), origin=f"sweep.adopt(frame, {', '.join(said)})", **settings)
    return Results(take(plan, Path(out), replacing=replace)[0])


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
    """Train the runs that are missing and return the results, like `sweep run`.

    Parameters
    ----------
    config : path, mapping, function or Config, optional
        A YAML file, a mapping of its keys, or a training function `train(run, **params)`. Default: the built-in
        example.
    *overrides : str
        Keys to change, such as "params.optimizer.lr=0.01".
    seeds : iterable of int or str, optional
        The seeds to train, such as `range(10)` or "0-9".
    out : path or URL, optional
        The run directory. Default: `runs/NAME`.
    engine : {"ray", "inline"}
        Train on Ray, many runs at once, or in this process, one run after another.
    address : str, optional
        The address of a running Ray cluster. Default: start a local one.
    jobs : int, optional
        The largest number of runs that train at once.
    retry_failed : bool, default False
        Train failed runs again. Their old records are kept.
    retrain : bool, default False
        Train every run of the directory again, with the current code and config. Old records are kept and counted.
    on_event : callable, optional
        Called with each event. Default: a notebook shows progress.
    **settings
        Config keys, such as `deterministic=True` or `params={"lr": 0.1}`.

    Returns
    -------
    Results
        Returned even if runs failed: see `results.frame.status`.

    Raises
    ------
    ConfigError, TargetError, StoreError
        Raised before anything starts; StoreError also if not all results could be copied to a URL.
    """
    function = config if callable(config) and not isinstance(config, Config) else None
    if isinstance(seeds, int):
        raise ConfigError(
            f"seeds={seeds} may mean {seeds} seeds or seed {seeds}", where="seeds",
            hint=f"write seeds=range({seeds}) or seeds=[{seeds}]",
        )  # fmt: skip
    if seeds is not None:
        settings["seeds"] = seeds if isinstance(seeds, str) else list(seeds)
    checked = _config(config, overrides, settings, function)
    launch = start(
        checked, out, engine, function, address=address, jobs=jobs, retry_failed=retry_failed, retrain=retrain
    )
    show, end = _shown(launch, on_event)
    try:
        for event in launch:
            show(event)
    finally:
        launch.close()
        end()
    if launch.uncopied:
        raise StoreError(
            f"all runs have ended, but not everything was copied: {launch.uncopied}", where=os.fspath(launch.out)
        )
    return open(launch.out if launch.remote is None or out is None else out)


def _shown(
    launch: Launch, on_event: Callable[[Event], None] | None
) -> tuple[Callable[[Event], None], Callable[[], None]]:
    """Return a function that shows events, by default in a live notebook display, and a function that ends it."""
    if on_event is not None:
        return on_event, lambda: None

    def quiet(event: Event) -> None:
        if isinstance(event, Begun) and event.todo == 0:
            print(event.nothing)

    # IPython is never imported to find out whether this is one of its kernels.
    ipython: Any = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    if not hasattr(shell, "kernel"):
        return quiet, lambda: None
    from sweep.report.live import ROWS, Cell, running

    config = launch.plan.config
    cell = Cell(config.name, config.primary, "starting Ray" if launch.own_process else "starting")

    def show(event: Event) -> None:
        quiet(event)
        if isinstance(event, Begun):
            cell.begin(event.store.scan())
        elif isinstance(event, Finished):
            cell.ended(event.key, event.record.status, dict(event.record.metrics), event.record.seconds)
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
        return load(None, overrides, **named({**(config or {}), **settings}, overrides))
    if isinstance(config, (str, os.PathLike)):
        return load(Path(config), overrides, **settings)
    raise ConfigError(f"a config is a file, a mapping or a function, not {type(config).__name__}")
