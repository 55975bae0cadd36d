"""Exports, read back with the libraries that people read them with."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished import failure, sweep_of

from sweep.analysis import frames
from sweep.cli.app import main
from sweep.errors import EnvironmentRefused, StoreError
from sweep.export import export
from sweep.plan import RunSpec
from sweep.store import Store

ATTACK = '=HYPERLINK("http://x","y")'


def outcome(spec: RunSpec) -> dict[str, Any]:
    if spec.seed == 3:
        return {"failure": failure("raised", ATTACK)}
    history = [{"step": s, "train/loss": spec.seed / s} for s in (1, 2, 4)]
    return {"metrics": {"test/accuracy": 0.9 + spec.seed / 100, "test/delta": -1.5}, "history": history}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sweep_of(tmp_path / "runs", outcome, seeds=range(4), variants=("a", "b"))


def test_csv_read_with_pandas_and_with_a_plain_reader(store: Store, tmp_path: Path) -> None:
    made = export(store, "csv", tmp_path / "csv")
    assert [path.name for path in made] == ["runs.csv", "history.csv", "summary.csv"]
    runs = pd.read_csv(made[0])
    assert len(runs) == 8
    ok = runs[runs["status"] == "ok"]
    np.testing.assert_array_equal(ok["test/accuracy"], [0.9, 0.91, 0.92] * 2)  # every digit
    history = pd.read_csv(made[1])
    assert len(history) == 18
    assert history.loc[(history["seed"] == 2) & (history["step"] == 4), "train/loss"].tolist() == [0.5, 0.5]
    summary = pd.read_csv(made[2]).set_index(["variant", "metric"])
    row = summary.loc[("b", "test/accuracy")]
    assert (row["n"], row["planned"], row["failed"]) == (3, 4, 1)
    assert math.isclose(row["mean"], 0.91)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_nothing_is_written_through_a_link_that_waits_where_it_is_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A command that stands in a folder of a stranger's writes below it, under names that are known."""
    monkeypatch.chdir(tmp_path)
    victim = Path("profile").resolve()
    victim.write_text("mine\n")
    folder = Path(f"runs-{kind}")
    folder.mkdir()
    for name in (f"runs.{kind}", f".runs.{kind}.part", f".history.{kind}.part"):
        (folder / name).symlink_to(victim)
    assert main(["export", "runs", "--to", kind]) == 0
    assert victim.read_text() == "mine\n"
    assert not (folder / f"runs.{kind}").is_symlink()
    folder.rename("elsewhere")
    folder.symlink_to("elsewhere")
    assert main(["export", "runs", "--to", kind]) == 2


def test_no_cell_is_a_formula_and_negative_numbers_stay_numbers(store: Store, tmp_path: Path) -> None:
    made = export(store, "csv", tmp_path / "csv")
    cells = [cell for path in made for row in csv.reader(path.read_text().splitlines()) for cell in row]
    assert f"'{ATTACK}" in cells
    assert not [c for c in cells if c.startswith(("=", "+", "@", "\t")) or (c.startswith("-") and not number(c))]
    assert pd.read_csv(made[0])["test/delta"].dropna().eq(-1.5).all()


def number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_parquet_read_with_pyarrow(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [parquet]")
    made = export(store, "parquet", tmp_path / "parquet")
    runs = parquet.read_table(made[0])
    assert runs.num_rows == 8
    assert str(runs.schema.field("seed").type) == "int64"
    assert runs.column("message").to_pylist().count(ATTACK) == 2  # a file without formulas needs no guard
    assert parquet.read_table(made[2]).num_rows == 4


def test_tensorboard_read_with_its_own_reader(store: Store, tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra [tensorboard]"
    )
    made = export(store, "tensorboard", tmp_path / "tb")
    names = {path.relative_to(tmp_path / "tb").as_posix() for path in made}
    assert names == {f"seeds/{v}/seed{s}" for v in "ab" for s in range(3)}

    def scalars(folder: str, tag: str) -> list[tuple[int, float]]:
        events = reader.EventAccumulator(str(tmp_path / "tb" / folder))
        events.Reload()
        return [(event.step, event.value) for event in events.Scalars(tag)]

    assert scalars("seeds/a/seed2", "train/loss") == [(1, 2.0), (2, 1.0), (4, 0.5)]
    ((step, value),) = scalars("seeds/a/seed1", "result/test/accuracy")
    assert (step, round(value, 6)) == (4, 0.91)
    with pytest.raises(StoreError, match="not empty"):
        export(store, "tensorboard", tmp_path / "tb")


def test_the_command_says_what_it_wrote(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "runs", "--to", "csv"]) == 0
    out = capsys.readouterr().out
    assert "wrote runs-csv/summary.csv" in out
    assert "next: python -c" in out
    assert main(["export", "runs"]) == 2


@pytest.mark.filterwarnings("ignore")  # of libraries among themselves
def test_mlflow_read_with_its_own_client(store: Store, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    (made,) = export(store, "mlflow", tmp_path / "ml")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{made}")
    (experiment,) = (e for e in client.search_experiments() if e.name == store.manifest.name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 8 + 2
    one = runs["b/seed2"]
    assert (one.data.params["seed"], one.data.metrics["test/accuracy"]) == ("2", 0.92)
    assert [point.value for point in client.get_metric_history(one.info.run_id, "train/loss")] == [2.0, 1.0, 0.5]
    assert runs["b/seed3"].info.status == "FAILED"
    mean = runs["b: over seeds"]
    row = frames.summary(frames.frame(store)).set_index(["variant", "metric"]).loc[("b", "test/accuracy")]
    found = [mean.data.metrics[f"test/accuracy/{name}"] for name in ("mean", "low", "high")]
    assert found == row[["mean", "low", "high"]].tolist()
    assert (mean.data.params["failed"], mean.data.tags["sweep.kind"]) == ("1", "aggregate")


@pytest.mark.filterwarnings("ignore")  # of libraries among themselves
def test_mlflow_takes_names_that_would_be_paths_and_keeps_them_apart(tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    names = ["../../x", "/etc/x", "..", ".", "a//b", "a_b", "a?b", "a*b", "x" * 600]
    made = sweep_of(tmp_path / "runs", lambda spec: {"metrics": {"acc": 0.5, **dict.fromkeys(names, 0.5)}}, seeds=[0])
    (path,) = export(made, "mlflow", tmp_path / "out" / "ml")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert max(len(run.data.metrics) for run in runs) >= 1 + len(names)


@pytest.mark.filterwarnings("ignore")  # of libraries among themselves
def test_wandb_offline_read_as_its_own_sync_reads_it(store: Store, tmp_path: Path) -> None:
    records: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    folders = export(store, "wandb-offline", tmp_path / "wb")
    found = {}
    for folder in folders:
        (path,) = folder.glob("*.wandb")
        told: dict[str, Any] = {}
        for data in leveldb(path.read_bytes()):
            record = records.Record.FromString(data)
            if record.HasField("run"):
                told |= {"name": record.run.display_name, "kind": record.run.job_type, "group": record.run.run_group}
            for item in record.summary.update:
                told["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
            if record.HasField("exit"):
                told["exit"] = record.exit.exit_code
        found[told["name"]] = told
    assert len(found) == 8 + 2
    assert found["b/seed2"]["test/accuracy"] == 0.92
    assert (found["b/seed2"]["exit"], found["b/seed3"]["exit"]) == (0, 1)
    row = frames.summary(frames.frame(store)).set_index(["variant", "metric"]).loc[("b", "test/accuracy")]
    mean = found["b: over seeds"]
    assert [mean[f"test/accuracy/{name}"] for name in ("mean", "low", "high")] == row[["mean", "low", "high"]].tolist()
    assert (mean["kind"], mean["group"]) == ("aggregate", "b")


def leveldb(data: bytes) -> Iterator[bytes]:
    """The records of a log in blocks of 32 KiB, behind a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_a_package_that_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    missing = [name for name in ("mlflow", "wandb") if find_spec(name) is None]
    for name in missing:
        with pytest.raises(EnvironmentRefused, match=name):
            export(store, "mlflow" if name == "mlflow" else "wandb-offline", tmp_path / name)
