"""The records and their aggregates in the formats of other tools."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.analysis.frames import frame_of, history, summary, test_to_train
from sweep.errors import EnvironmentRefused, StoreError
from sweep.nested import flatten
from sweep.plan import content_id
from sweep.store import Store, atomic

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "parquet", "tensorboard", "mlflow", "wandb-offline"]

_NEEDS = {
    "parquet": ("pyarrow",), "tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy"),
    "wandb-offline": ("wandb",),
}  # fmt: skip
# Characters that begin a formula in spreadsheets, full-width forms included, and those that may precede one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def export(store: Store, kind: Kind, out: Path) -> list[Path]:
    """Write the results of a run directory into the folder `out`; return the files or folders that were made.

    csv, parquet: `runs` (one row per run), `history` (one row per run and step) and `summary` (one row per metric,
    over seeds). tensorboard: one folder of events per run, with its curves and its results. mlflow, wandb-offline: one
    run of the tracker per run, with its curves and results, and for each variant one with the mean, low and high of
    each metric over its seeds.

    Raises: EnvironmentRefused if a package is missing, StoreError if `out` cannot be used.
    """
    _require(kind)
    if out.is_symlink():  # without --out, whoever made the working directory can predict its name
        raise StoreError("is a link", where=str(out), hint="name the folder that it points to with --out")
    if kind not in ("csv", "parquet") and out.is_dir() and any(out.iterdir()):
        raise StoreError(
            "is not empty, so old runs would be mixed with new ones", where=str(out), hint="choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot be created ({error.strerror})", where=str(out), hint="choose another --out"
        ) from error
    if kind in ("csv", "parquet"):
        return _tables(store, kind, out)
    return {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb-offline": _wandb}[kind](store, out)


def _require(kind: Kind) -> None:
    for package in _NEEDS.get(kind, ()):
        if find_spec(package) is None:
            extra = kind in ("parquet", "tensorboard")
            raise EnvironmentRefused(
                f"{kind} needs the package {package}", where="export",
                hint=f'install it: pip install "seed-sweep[{kind}]"' if extra else f"install it: pip install {package}",
            )  # fmt: skip


def _tables(store: Store, kind: Kind, out: Path) -> list[Path]:
    runs = frame_of(store.scan())
    made = []
    for name, table in {"runs": runs, "history": history(store), "summary": _summary(store)}.items():
        made.append(out / f"{name}.{kind}")
        if kind == "csv":
            atomic.write(made[-1], partial(guarded(table).to_csv, index=False, mode="wb"))
        else:
            atomic.write(made[-1], partial(table.to_parquet, index=False, engine="pyarrow"))
    return made


def _summary(store: Store) -> pd.DataFrame:
    members = list(store.scan())
    ratio = test_to_train(members, store.manifest.experiment.get("vary") or ())
    return summary(frame_of(members), ratio=ratio, folds=store.manifest.folds)


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with an apostrophe before every text, headers included, that a spreadsheet would evaluate.

    Names and messages come from training code: `=HYPERLINK(…)` in an error message must stay text.
    """
    out = table.copy()
    for place, name in enumerate(table.columns):
        if table.iloc[:, place].dtype.kind not in "biuf":
            out[name] = [_plain(value) for value in table.iloc[:, place]]
    return out.set_axis([_plain(name) for name in table.columns], axis=1)


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _tensorboard(store: Store, out: Path) -> list[Path]:
    made = []
    for member in store.scan():
        rows = store.history(member)
        results = member.record.metrics if member.record is not None and member.status == "ok" else {}
        if not rows and not results:
            continue
        folder = out.joinpath("seeds", *member.key.split("/"))
        _write_events(folder, _points(rows, {f"result/{name}": value for name, value in results.items()}))
        made.append(folder)
    return made


def _points(rows: Sequence[Mapping[str, Any]], results: Mapping[str, float]) -> list[tuple[int, str, float]]:
    """Return (step, name, value) of a curve, and of the results at its last step."""
    last = max((row["step"] for row in rows), default=0)
    curve = [(row["step"], name, value) for row in rows for name, value in row.items() if name != "step"]
    return curve + [(last, name, value) for name, value in results.items()]


def _write_events(folder: Path, points: list[tuple[int, str, float]]) -> None:
    # TensorBoard's own writer, without torch.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True)
    writer = EventFileWriter(str(folder))
    try:
        for step, tag, value in sorted(points, key=lambda point: point[0]):
            scalar = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            # A history has no times; one second per step keeps the relative axis in order.
            writer.add_event(Event(wall_time=float(step), step=step, summary=scalar))
    finally:
        writer.close()


@dataclass(frozen=True)
class _Run:
    """A run in the format of a tracker. params: its parameters; rows: its curve; results: its final metrics."""

    name: str
    kind: Literal["seed", "aggregate"]
    group: str
    params: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    results: Mapping[str, float]
    failed: bool = False


def _runs(store: Store) -> Iterator[_Run]:
    """Yield every run that ended, then the aggregate over seeds of each variant of each task."""
    members = list(store.scan())
    params = {(c["task"], c["variant"]): dict(flatten(c["params"])) for c in store.manifest.experiment["cells"]}
    for member in members:
        if member.record is not None:
            cell = (member.task, member.variant)
            about = {**params[cell], "task": member.task, "variant": member.variant, "seed": member.seed}
            yield _Run(
                member.key, "seed", _group(cell, store), about, store.history(member), member.record.metrics,
                member.status == "failed",
            )  # fmt: skip
    table = _summary(store)
    for (task, variant), rows in table.groupby(["task", "variant"], sort=False, observed=True):
        cell = (str(task), str(variant))
        found = {
            f"{row['metric']}/{name}": float(row[name])
            for row in rows.to_dict("records") for name in ("mean", "low", "high") if math.isfinite(row[name])
        }  # fmt: skip
        first = rows.iloc[0]
        counts = {name: int(first[name]) for name in ("planned", "ok", "failed", "lost", "pending")}
        about = {**params[cell], "task": cell[0], "variant": cell[1], **counts, "level": float(first["level"])}
        yield _Run(f"{_group(cell, store)}: over seeds", "aggregate", _group(cell, store), about, (), found)


def _group(cell: tuple[str, str], store: Store) -> str:
    return "/".join(part for part in cell if part) or store.manifest.name


def _mlflow(store: Store, out: Path) -> list[Path]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=f"sqlite:///{out.resolve() / 'mlflow.db'}")
    experiment = client.create_experiment(store.manifest.name, artifact_location=(out / "artifacts").resolve().as_uri())
    for run in _runs(store):
        tags = {"mlflow.runName": run.name, "sweep.kind": run.kind, "sweep.group": run.group}
        made = client.create_run(experiment, tags=tags).info.run_id
        params = [Param(_tracked(key), str(value)[:500]) for key, value in run.params.items()]
        client.log_batch(made, params=params)
        metrics = [Metric(_tracked(name), value, 0, step) for step, name, value in _points(run.rows, run.results)]
        for at in range(0, len(metrics), 1000):  # the most that MLflow accepts at once
            client.log_batch(made, metrics=metrics[at : at + 1000])
        client.set_terminated(made, "FAILED" if run.failed else "FINISHED")
    return [out / "mlflow.db"]


def _tracked(name: str) -> str:
    """Return a name that MLflow accepts and that is not a path to another place; a changed one stays unique."""
    parts = (part.strip(".") for part in re.sub(r"[^\w\-. :/]", "_", name)[:240].split("/"))
    made = "/".join(filter(str.strip, parts))
    return made if made and made == name else f"{made}-{content_id(ascii(name))[:6]}"


def _wandb(store: Store, out: Path) -> list[Path]:
    import wandb

    made = []
    for run in _runs(store):
        tracked = wandb.init(
            project=re.sub(r"[/\\#?%:]", "-", store.manifest.name)[:128], name=run.name, group=run.group,
            job_type=run.kind, config=dict(run.params), dir=str(out), mode="offline", reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )  # fmt: skip
        for row in run.rows:
            tracked.log({key: value for key, value in row.items() if key != "step"}, step=max(0, int(row["step"])))
        tracked.summary.update(dict(run.results))
        made.append(Path(tracked.dir).parent)
        tracked.finish(exit_code=int(run.failed))
    return made
