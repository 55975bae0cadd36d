"""A pack becomes records: whatever the user's code does, there is one record and it says what happened."""

from __future__ import annotations

import errno
import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import torch

from sweep import forkserver
from sweep.config import load
from sweep.job import Answer, Cancelled, CannotWrite, Job, OneByOne
from sweep.plan import STREAMS, Cell, Plan, Target, stream_seed
from sweep.store import Failure, Manifest, Member, Record, Store, atomic
from sweep.store.names import TOKEN
from sweep.store.shape import seal
from sweep.worker import here
from sweep.worker.work import work


@pytest.fixture(autouse=True)
def unforked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system on which a run of the user's code shares the process of its worker."""
    monkeypatch.setattr(forkserver, "POSSIBLE", False)


def planned(seeds: tuple[int, ...] = (7,), *, deterministic: bool = True, threads: int = 1) -> Plan:
    config = load(None, name="w", train="made:up", seeds=[*seeds], deterministic=deterministic, threads=threads)
    return Plan(config, Target("function", "made:up"), (Cell("", "", {}),), "cpu")


class Trained:
    """One function, trained as one pack in a directory of its own."""

    def __init__(self, folder: Path, function: Callable[..., Any], plan: Plan | None = None, **job: Any) -> None:
        self.plan = plan or planned()
        self.store = Store.create(folder, Manifest("w", {}, self.plan.experiment(), self.plan.config.seeds))
        self.job = Job(path=os.fspath(folder), function=cloudpickle.dumps(function), **job)
        (folder / f"{TOKEN}{self.job.launch}").touch()  # as a launch that shares its directory with the worker
        self.answer: Answer = []

    def go(self) -> Trained:
        self.answer = [each for spec in self.plan for each in work((spec,), self.job)]
        return self

    @property
    def member(self) -> Member:
        return next(self.store.scan(verify=True))

    @property
    def record(self) -> Record:
        record = self.member.record
        assert record is not None
        return record

    @property
    def failure(self) -> Failure:
        assert self.record.failure is not None
        return self.record.failure

    @property
    def log(self) -> str:
        path = self.store.log(self.member)
        return path.read_text() if path else ""


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    def go(function: Callable[..., Any], **options: Any) -> Trained:
        return Trained(tmp_path / "runs", function, **options).go()

    return go


Train = Callable[..., Trained]


def test_the_run_is_what_was_asked_for(train: Train) -> None:
    seen: dict[str, Any] = {}

    def function(run: Any) -> dict[str, float]:
        record = {
            "seed": run.seed, "streams": dict(run.streams), "deterministic": run.deterministic, "device": run.device,
            "threads": run.threads, "effective": torch.get_num_threads(),
            "switch": torch.are_deterministic_algorithms_enabled(), "drawn": float(torch.rand(())),
        }  # fmt: skip
        (run.dir / "seen.json").write_text(atomic.dumps(record))
        return {"test/accuracy": 1.0}

    done = train(function)
    assert done.member.folder is not None
    seen = atomic.loads((done.member.folder / "seen.json").read_bytes())
    assert seen["streams"] == {name: stream_seed(7, name) for name in STREAMS}
    assert (seen["seed"], seen["deterministic"], seen["device"], seen["effective"]) == (7, True, "cpu", 1)
    assert seen["switch"]
    torch.manual_seed(7)
    assert seen["drawn"] == float(torch.rand(()))
    assert done.member.record is not None
    assert set(done.member.record.artifacts) == {"seen.json"}
    assert (done.answer, done.record.status, done.record.metrics) == ([], "ok", {"test/accuracy": 1.0})


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_count_is_set_recorded_and_put_back(train: Train, threads: int) -> None:
    before = torch.get_num_threads()
    done = train(lambda run: {"n": torch.get_num_threads()}, plan=planned(threads=threads))
    assert done.record.metrics == {"n": threads}
    assert done.member.record is not None
    assert done.member.record.environment["threads"] == threads
    assert torch.get_num_threads() == before


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def _raise(error: BaseException) -> Callable[[Any], Any]:
    def function(run: Any) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        (_raise(ValueError("unlucky")), "raised", "ValueError: unlucky"),
        (_raise(SystemExit(3)), "raised", "SystemExit: 3"),
        (_raise(RuntimeError()), "raised", "no message"),
        (_raise(OSError("no file 'a\udcff'")), "raised", "no file"),
        (_raise(MemoryError("much")), "out of memory", "--jobs"),
        (_raise(RuntimeError("x does not have a deterministic implementation, but")), "nondeterministic", "x has no"),
        (lambda run: None, "returned", "gave None (NoneType)"),
        (lambda run: "0.93", "returned", "gave '0.93' (str)"),
        (lambda run: {}, "returned", "gave no metrics"),
        (lambda run: {"a": "high"}, "returned", "metric 'a'"),
        (lambda run: run.save_predictions("by metric", ids=[1], targets=[1], mean=[1]), "raised", "is an invalid name"),
        (lambda run: {"test/loss": float("nan")}, "diverged", "test/loss is nan"),
        (lambda run: {"test/loss": float("inf")}, "diverged", "test/loss is inf"),
    ],
    ids=[
        "an error", "an exit", "no message", "no unicode", "no memory", "no kernel", "nothing", "a number", "no metric",
        "a text", "a bad name", "nan", "inf",
    ],
)  # fmt: skip
def test_every_way_to_fail_is_a_record_with_its_reason(
    train: Train, function: Callable[..., Any], kind: str, says: str
) -> None:
    done = train(function)
    record = done.member.record
    assert record is not None
    assert record.failure is not None
    assert (record.status, record.failure.kind) == ("failed", kind)
    assert says in str(record.failure)


def test_an_exception_that_cannot_be_printed_fails_its_run_only(train: Train) -> None:
    done = train(_raise(Unprintable()))
    assert "cannot be read" in done.failure.message


def test_a_failure_names_the_innermost_line_of_the_users_code(train: Train) -> None:
    def function(run: Any) -> Any:
        import json

        return json.loads("{")

    assert train(function).failure.where.startswith("test_worker.py:")


def test_the_log_has_what_was_printed_and_the_traceback_with_its_cause(train: Train) -> None:
    def function(run: Any) -> Any:
        print("said aloud")
        try:
            raise KeyError("deep cause")
        except KeyError as error:
            raise ValueError("shown") from error

    log = train(function).log
    assert log.index("said aloud") < log.index("deep cause") < log.index("ValueError: shown")
    assert "worker.py" not in log.replace("test_worker.py", "")


def test_what_diverged_keeps_its_metrics(train: Train) -> None:
    record = train(lambda run: {"test/loss": float("inf"), "test/accuracy": 0.1}).member.record
    assert record is not None
    assert record.metrics == {"test/loss": float("inf"), "test/accuracy": 0.1}


def test_the_values_logged_last_are_the_result_of_code_that_returns_none(train: Train) -> None:
    def function(run: Any) -> None:
        run.log({"test/accuracy": 0.9}, step=1)
        run.log({"test/accuracy": 0.5}, step=2)

    record = train(function).member.record
    assert record is not None
    assert record.metrics == {"test/accuracy": 0.5}  # never the best one
    assert record.result == {"rule": "returned", "epoch": None}


def test_a_switch_that_the_code_turned_back_is_noted(train: Train) -> None:
    def function(run: Any) -> dict[str, float]:
        torch.use_deterministic_algorithms(False)
        return {"a": 1.0}

    assert any("not deterministic" in note for note in train(function).record.notes)


def test_a_time_limit_is_an_outcome_with_the_stacks_in_the_log(train: Train) -> None:
    def slow(run: Any) -> dict[str, float]:
        time.sleep(60)
        return {"a": 1.0}

    done = train(slow, timeout=0.2)
    assert done.failure.kind == "timeout"
    assert "in slow" in done.log
    assert "(most recent call first):" in done.log


def test_the_seconds_of_a_run_are_those_of_its_training(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for the record after training, such as reading the files of the plan again, does not count as the run's."""
    clock = [0.0]

    def read_again(watched: Any) -> list[str]:
        clock[0] += 1000.0
        return []

    monkeypatch.setattr(here, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(here, "changed", read_again)
    assert train(lambda run: {"a": 1.0}).record.seconds == 0
    assert clock[0] == 1000.0


def test_a_stop_leaves_no_record_and_nobody_at_work(train: Train, tmp_path: Path) -> None:
    def function(run: Any) -> dict[str, float]:
        Path(stop).touch()
        run.log({"a": 1.0}, step=1)
        return {"a": 1.0}

    stop = str(tmp_path / "runs" / "stop-abc")
    done = train(function, launch="abc")
    assert done.answer == []
    assert (done.member.status, done.member.record) == ("stopped", None)


@pytest.mark.parametrize(
    ("error", "status"), [(Cancelled(), "stopped"), (RuntimeError("a mistake of ours"), "lost")], ids=repr
)
def test_what_ends_the_worker_itself_leaves_nobody_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def fail(*_: object) -> bool:
        raise error

    monkeypatch.setattr(Store, "commit", fail)
    trained = Trained(tmp_path / "runs", lambda run: {"a": 1.0})
    with pytest.raises(type(error)):
        trained.go()
    assert trained.member.status == status


def test_runs_trained_together_that_end_in_an_error_say_it_in_one_line(tmp_path: Path) -> None:
    def function(run: Any) -> dict[str, float]:
        raise RuntimeError("the device is broken\nSearch for its name\n")

    trained = Trained(tmp_path / "runs", function, planned((1, 2)))
    (why,) = work(tuple(trained.plan), trained.job)
    assert isinstance(why, OneByOne)
    assert str(why) == "RuntimeError: the device is broken"


@pytest.mark.parametrize(
    ("number", "the_disk"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True), (errno.EIO, True), (errno.EFBIG, True),
     (errno.ESTALE, True), (errno.ENOENT, False), (errno.EACCES, False), (errno.EPIPE, False)],
    ids=errno.errorcode.get,
)  # fmt: skip
def test_an_error_of_the_disk_in_the_users_code_is_no_failure_of_its_run(
    train: Train, number: int, the_disk: bool
) -> None:
    def function(run: Any) -> None:
        raise OSError(number, os.strerror(number))

    done = train(function)
    if the_disk:
        assert [type(each) for each in done.answer] == [CannotWrite]
        assert done.member.record is None
    else:
        assert (done.failure.kind, done.answer) == ("raised", [])


def test_a_second_attempt_is_late_and_changes_nothing(train: Train) -> None:
    done = train(lambda run: {"a": 1.0})
    before = done.record
    assert not done.store.late(done.member, "")
    done.go()
    assert done.store.late(done.member, "")
    assert seal(done.record) == seal(before)


def test_what_is_printed_stays_off_the_screen(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    def function(run: Any) -> dict[str, float]:
        print("loud")
        assert isinstance(io.StringIO(), io.StringIO)
        return {"a": 1.0}

    assert "loud" in train(function).log
    assert capsys.readouterr().out == ""


def test_a_worker_told_to_terminate_leaves_no_record(tmp_path: Path) -> None:
    def function(run: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return {"a": 1.0}

    before = signal.getsignal(signal.SIGTERM)
    trained = Trained(tmp_path / "runs", function, own_process=True)
    with pytest.raises(Cancelled):
        trained.go()
    assert (trained.member.status, trained.member.record) == ("stopped", None)
    assert signal.getsignal(signal.SIGTERM) is before
