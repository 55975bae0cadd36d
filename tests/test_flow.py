"""From a config to a report, in this process: what a user of the five commands relies on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep import Results, SweepError
from sweep.cli.app import main
from sweep.errors import ConfigError, StoreError, TargetError
from sweep.launch import Begun, Event, Finished
from sweep.verify import canary

LINE = {"name": "line", "train": "toys:line"}
DIGITS = {
    "name": "tiny", "recipe": "sweep.train.recipes:classifier", "deterministic": True,
    "params": {"data": {"name": "digits", "limit": 120}, "model": {"hidden": [8]}, "epochs": 2},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(config: Any, seeds: Sequence[int], **options: Any) -> tuple[Results, list[int]]:
    """The results, and the seeds that were trained for them, in order."""
    events: list[Event] = []
    results = sweep.run(config, seeds=seeds, engine="inline", on_event=events.append, **options)
    keys = [e.key for e in events if isinstance(e, Finished)]
    assert any(isinstance(e, Begun) for e in events)
    return results, [int(key.rpartition("seed")[2].partition("-")[0]) for key in keys]


def digests(results: Results) -> dict[int, dict[str, str]]:
    return {m.seed: dict(m.record.digests) for m in results.store.scan() if m.record is not None}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_missing_is_trained_and_nothing_twice() -> None:
    results, seeds = trained(LINE, [3, 1, 2])
    assert seeds == [3, 1, 2]
    assert results.frame["status"].tolist() == ["ok"] * 3
    assert results.frame["seed"].tolist() == [1, 2, 3]
    records = bytes_of(results.path / "members")
    again, seeds = trained(LINE, [3, 1, 2])
    assert seeds == []
    assert bytes_of(again.path / "members") == records
    more, seeds = trained(LINE, [3, 1, 2, 9, 8])
    assert seeds == [9, 8]
    assert records.items() <= bytes_of(more.path / "members").items()
    first, second = more.store.manifest.seed_log
    assert (first.added, first.results_existed) == ((3, 1, 2), False)
    assert (second.added, second.results_existed) == ((9, 8), True)


def test_fewer_seeds_take_nothing_away() -> None:
    trained(LINE, [1, 2])
    results, seeds = trained(LINE, [2])
    assert seeds == []
    assert results.store.manifest.seeds == (1, 2)


def test_another_primary_metric_is_shown_and_said_to_come_late() -> None:
    config = LINE
    first, _ = trained(config, [1, 2])
    metrics = [row.metric for row in first.report.rows]
    assert len(metrics) > 1
    other = next(metric for metric in metrics if metric != first.report.primary)
    second, seeds = trained({**config, "primary": other}, [1, 2])
    assert (second.report.primary, seeds) == (other, [])
    assert "the primary metric was changed from the default after results existed" in second.report.warnings
    back, _ = trained(config, [1, 2])
    assert (back.report.primary, back.report.warnings) == (first.report.primary, first.report.warnings)


def test_another_config_is_refused_with_a_diff_and_changes_nothing() -> None:
    results, _ = trained(LINE, [1])
    before = bytes_of(results.path)
    with pytest.raises(StoreError, match=r"params\.lr: 0\.1 -> 0\.2"):
        trained({**LINE, "params": {"lr": 0.2}}, [1, 2])
    assert bytes_of(results.path) == before


def test_a_raising_seed_is_one_of_three_and_its_traceback_is_in_its_log() -> None:
    results, seeds = trained({**LINE, "params": {"fail": 2}}, [1, 2, 3])
    assert seeds == [1, 2, 3]
    assert results.frame["status"].tolist() == ["ok", "failed", "ok"]
    member = next(m for m in results.store.scan() if m.seed == 2)
    assert member.record is not None
    assert member.record.failure is not None
    assert member.record.failure.where.startswith("toys.py:")
    assert str(member.record.failure).startswith("raised: ValueError: seed 2 is unlucky")
    log = results.store.log(member)
    assert log is not None
    assert "about to fail" in log.read_text()
    assert "Traceback" in log.read_text()
    assert "seed 2 is unlucky" in log.read_text()
    assert "1 of 3 failed" in str(results)
    assert len(results.store.history(member)) == 2


def test_a_failed_seed_runs_again_only_when_asked_and_is_counted() -> None:
    failing = {**LINE, "params": {"fail": 2}}
    trained(failing, [1, 2])
    assert trained(failing, [1, 2])[1] == []
    results, seeds = trained(failing, [1, 2], retry_failed=True)
    assert seeds == [2]
    member = next(m for m in results.store.scan() if m.seed == 2)
    assert (member.status, member.attempts, member.retried) == ("failed", 2, 1)


def test_a_damaged_record_is_moved_aside_and_its_seed_trained_again() -> None:
    results, _ = trained(LINE, [1, 2])
    before = results.frame[["test/accuracy", "test/loss"]]
    path = next(m for m in results.store.scan() if m.seed == 1).path / "record.json"
    path.write_bytes(path.read_bytes()[:-30])
    again, seeds = trained(LINE, [1, 2])
    assert seeds == [1]
    assert again.frame[["test/accuracy", "test/loss"]].equals(before)
    assert list(path.parent.glob("record.corrupt-*"))


def test_a_lost_run_is_trained_by_the_next_command() -> None:
    results, _ = trained(LINE, [1])
    member = next(results.store.scan())
    (member.path / "record.json").unlink()
    attempt = next(member.path.glob("attempt-*"))
    about = json.loads((attempt / "attempt.json").read_text())
    (attempt / "attempt.json").write_text(json.dumps({**about, "pid": 0}))
    assert sweep.open(results.path).frame["status"].tolist() == ["lost"]
    assert trained(LINE, [1])[1] == [1]


def test_variants_and_repeats_all_get_every_seed() -> None:
    config = {**LINE, "grid": {"params.lr": [0.1, 0.2]}, "repeats": 2}
    results, _ = trained(config, [1, 2])
    assert len(results.frame) == 8
    assert set(results.frame["status"]) == {"ok"}
    assert len({m.record.spec_id for m in results.store.scan() if m.record}) == 8


def test_a_function_that_no_import_finds_can_be_swept() -> None:
    factor = 3.0

    def local(run: Any, *, scale: float = 1.0) -> dict[str, float]:
        return {"test/score": run.seed * scale * factor}

    results, _ = trained(local, [1, 2], params={"scale": 2.0})
    assert results.frame["test/score"].tolist() == [6.0, 12.0]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return sweep.run(DIGITS, seeds=[1, 2, 3], engine="inline", out=tmp_path_factory.mktemp("digits") / "tiny")


def test_a_recipe_gives_curves_predictions_and_a_report(digits: Results) -> None:
    results = digits
    assert results.frame["status"].tolist() == ["ok"] * 3
    assert {"test/accuracy", "test/nll"} <= set(results.frame.columns)
    assert results.history.groupby("seed").size().tolist() == [2, 2, 2]
    summary = results.summary().set_index("metric")
    assert summary.loc["test/accuracy", "n"] == 3
    members = list(results.store.scan(verify=True))
    assert all("test" in results.store.splits(m) for m in members)
    text = str(results)
    assert "3 planned = 3 ok + 0 failed + 0 lost + 0 pending" in text
    assert "ensemble" in text
    record = members[0].record
    assert record is not None
    assert record.spec["deterministic"]
    assert record.environment["threads"] == 1
    assert record.result == {"rule": "final", "epoch": 2, "examples": {"train": 101, "val": 19, "test": 120}}
    assert len({tuple(d["final"]) for d in digests(results).values()}) == 3


def test_equal_seeds_give_equal_bits_and_different_ones_do_not(
    digits: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done_before(*_: Any, **__: Any) -> Any:
        raise SweepError("the canary of `digits` trained these steps")

    monkeypatch.setattr(canary, "prove", done_before)
    other_order, _ = trained(DIGITS, [3, 2, 1], out="twice")
    assert digests(digits) == digests(other_order)
    assert digests(digits)[1]["final"] != digests(digits)[2]["final"]


def test_a_seed_does_not_depend_on_who_trained_before_it() -> None:
    def careless(run: Any) -> dict[str, float]:
        import random

        import numpy as np
        import torch

        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
        os.environ["LEFT_BEHIND"] = "yes"
        torch.set_default_dtype(torch.float64)
        return dict(zip(("a", "b", "c"), drawn, strict=True))

    together, _ = trained(careless, [1, 2], out="together")
    alone, _ = trained(careless, [2], out="alone")
    columns = ["a", "b", "c"]
    assert together.frame[columns].iloc[1].tolist() == alone.frame[columns].iloc[0].tolist()
    assert "LEFT_BEHIND" not in os.environ


def test_one_by_one_with_ml_train_makes_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.json.yaml").write_text(json.dumps({**DIGITS, "deterministic": False}))
    assert main(["run", "tiny.json.yaml", "--engine", "inline", "--seeds", "42,7", "--out", "all"]) == 0
    for seed in ("7", "42"):
        assert main(["ml-train", "tiny.json.yaml", "--seed", seed, "--out", "single"], program="ml-train") == 0
    assert "seed 42 (fast, cpu, 1 thread): ok" in capsys.readouterr().out
    assert main(["report", "single", "--format", "json"]) == 0
    single = json.loads(capsys.readouterr().out)
    assert main(["report", "all", "--format", "json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert digests(sweep.open("single")) == digests(sweep.open("all"))
    assert [row["mean"] for row in _metrics(single)] == [row["mean"] for row in _metrics(whole)]


def _metrics(report: Any) -> list[dict[str, Any]]:
    """Every table row with a mean, wherever the report keeps it."""
    if isinstance(report, dict):
        own = [report] if "mean" in report else []
        return own + [row for value in report.values() for row in _metrics(value)]
    return [row for value in report for row in _metrics(value)] if isinstance(report, list) else []


def test_ml_train_joins_a_sweep_that_varies_one_stream() -> None:
    Path("vary.yaml").write_text("name: vary\ntrain: toys:streamed\nvary: [order]\n")
    assert main(["run", "vary.yaml", "--engine", "inline", "--seeds", "1,2"]) == 0
    assert main(["ml-train", "vary.yaml", "--seed", "3"], program="ml-train") == 0
    streams = [m.record.spec["streams"] for m in sweep.open("runs/vary").store.scan() if m.record]
    assert len({s["order"] for s in streams}) == 3
    assert len({s["init"] for s in streams}) == 1


@pytest.mark.parametrize(
    ("config", "options", "error"),
    [
        (LINE, {"seeds": [-1]}, ConfigError),
        (LINE, {"seeds": [2**32]}, ConfigError),
        (LINE, {"seeds": [1.5]}, ConfigError),
        (LINE, {"seeds": []}, ConfigError),
        (LINE, {"seeds": [1, 1]}, ConfigError),
        (LINE, {"seeds": [True]}, ConfigError),
        ({**LINE, "params": {"lrr": 1}}, {}, ConfigError),
        ({**LINE, "train": "toys:nothing"}, {}, TargetError),
        ({**LINE, "train": "no_such_module:f"}, {}, TargetError),
        ({**LINE, "recipe": "a:b"}, {}, ConfigError),
        (LINE, {"engine": "rai"}, ConfigError),
        (LINE, {"out": "file"}, StoreError),
        (3, {}, ConfigError),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_before_anything_is_written(
    config: Any, options: dict[str, Any], error: type[SweepError]
) -> None:
    Path("file").write_text("")
    with pytest.raises(error):
        sweep.run(config, **{"engine": "inline", **options})
    assert os.listdir() == ["file"]
