"""The queue: each planned run is trained once, whatever its workers do, and stops when it is told to."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep import forkserver
from sweep.config import Config, load
from sweep.engine import Done, Gone, Tick, inline
from sweep.engine.event import Event as EngineEvent
from sweep.errors import EnvironmentRefused, StoreError
from sweep.job import Accident, Job
from sweep.launch import Begun, Event, Finished, Launch, Retried, Said
from sweep.plan import Plan
from sweep.prepare import manifest_of, prepare, resolve_device
from sweep.store import Record, Store
from sweep.store.atomic import TEMPORARY
from sweep.store.names import LOG, STOP, TOKEN
from sweep.store.owner import this_process


def config(**changes: Any) -> Config:
    return load(None, **{"name": "line", "train": "toys:line", "seeds": [1, 2, 3], **changes})


def dying(times: int, *, seed: int = 2, poison: bool = True, then: Callable[[Any], None] | None = None) -> Any:
    """An engine in this process whose worker dies under one seed so many times, before it has done anything."""
    left = times

    def engine(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        nonlocal left
        while (task := pull()) is not None:
            if task[0].seed == seed and left > 0:
                left -= 1
                if then is not None:
                    then(task)
                yield Done(task, [Accident("the machine went away", poison)])
            else:
                yield Done(task, work(task))

    return engine


def launched(out: Path, engine: Any = inline, *, plan: Plan | None = None, **options: Any) -> list[Event]:
    return list(Launch(plan or prepare(config()), out, engine, own_process=False, **options))


def statuses(out: Path) -> dict[int, str]:
    return {m.seed: m.status for m in Store.open(out).scan()}


def finished(events: list[Event]) -> list[str]:
    return [e.key for e in events if isinstance(e, Finished)]


def test_every_run_is_begun_and_finished_once(tmp_path: Path) -> None:
    events = launched(tmp_path / "runs")
    begun = next(e for e in events if isinstance(e, Begun))
    assert (begun.planned, begun.done, begun.todo, begun.extended) == (3, 0, 3, ())
    assert finished(events) == ["seed1", "seed2", "seed3"]
    again = next(e for e in launched(tmp_path / "runs") if isinstance(e, Begun))
    assert (again.planned, again.done, again.todo) == (3, 3, 0)


@pytest.fixture
def unforked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system on which a run of the user's code shares the process of its worker."""
    monkeypatch.setattr(forkserver, "POSSIBLE", False)


@pytest.mark.usefixtures("unforked")
@pytest.mark.parametrize(("times", "status"), [(1, "ok"), (2, "ok"), (3, "failed"), (9, "failed")])
def test_three_kills_are_a_failure_and_fewer_are_not(tmp_path: Path, times: int, status: str) -> None:
    events = launched(tmp_path / "runs", dying(times))
    assert statuses(tmp_path / "runs") == {1: "ok", 2: status, 3: "ok"}
    assert sorted(finished(events)) == ["seed1", "seed2", "seed3"]
    assert len([e for e in events if isinstance(e, Retried)]) == min(times, 2)


def test_the_log_of_a_run_that_killed_its_workers_ends_with_what_they_said_last(tmp_path: Path) -> None:
    def says(task: Any) -> None:
        Store.open(tmp_path / "runs").begin(task[0]).log_text("Traceback\nRuntimeError: the reason\n")

    launched(tmp_path / "runs", dying(3, then=says))
    counts = Store.open(tmp_path / "runs").member("seed2")
    assert counts.record is not None
    assert counts.record.failure is not None
    assert counts.record.failure.kind == "killed"
    assert counts.folder is not None
    assert (counts.folder / LOG).read_text().endswith("ends with:\nTraceback\nRuntimeError: the reason\n")


@pytest.mark.usefixtures("unforked")
def test_retries_can_be_fewer(tmp_path: Path) -> None:
    events = launched(tmp_path / "runs", dying(1), plan=prepare(config(retries=0)))
    assert statuses(tmp_path / "runs")[2] == "failed"
    assert not [e for e in events if isinstance(e, Retried)]


def test_a_machine_that_goes_away_is_not_the_runs_fault(tmp_path: Path) -> None:
    launched(tmp_path / "runs", dying(5, poison=False))
    assert statuses(tmp_path / "runs") == {1: "ok", 2: "ok", 3: "ok"}


def test_but_no_cause_is_retried_for_ever(tmp_path: Path) -> None:
    events = launched(tmp_path / "runs", dying(10**6, poison=False))
    assert [e for e in events if isinstance(e, Said) and "the next command will try it again" in e.text]
    assert Store.open(tmp_path / "runs").member("seed2").record is None
    assert finished(launched(tmp_path / "runs")) == ["seed2"]


def test_what_a_worker_committed_before_it_died_counts(tmp_path: Path) -> None:
    plan = prepare(config())

    def commit(task: Any) -> None:
        store = Store.open(tmp_path / "runs")
        attempt = store.begin(task[0])
        made = Record(
            spec=task[0].to_json(), spec_id=task[0].id, status="ok", attempt=attempt.nonce, metrics={"test/accuracy": 1}
        )
        assert store.commit(attempt, made)

    events = launched(tmp_path / "runs", dying(1, then=commit), plan=plan)
    assert finished(events) == ["seed1", "seed2", "seed3"]
    assert not [e for e in events if isinstance(e, Retried)]
    record = Store.open(tmp_path / "runs").member("seed2").record
    assert record is not None
    assert record.metrics == {"test/accuracy": 1}


def test_a_second_result_of_a_run_is_discarded_and_said(tmp_path: Path) -> None:
    def twice(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        while (pack := pull()) is not None:
            if pack[0].seed == 2:
                work(pack)
            yield Done(pack, work(pack))

    events = launched(tmp_path / "runs", twice)
    assert finished(events) == ["seed1", "seed2", "seed3"]
    assert [e.text.partition(":")[0] for e in events if isinstance(e, Said) and "discarded" in e.text] == ["seed2"]
    assert '"late"' in (tmp_path / "runs" / "events.jsonl").read_text()
    assert set(statuses(tmp_path / "runs").values()) == {"ok"}


def test_what_the_launch_is_told_is_what_the_directory_holds(tmp_path: Path) -> None:
    """A record whose files are not those it answers for counts for nobody: the launch says so, and trains it later."""

    def altering(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        while (pack := pull()) is not None:
            answer = work(pack)
            if pack[0].seed == 2:
                (history,) = (tmp_path / "runs" / "members" / "seed2").rglob("history.jsonl")
                history.write_text("")
            yield Done(pack, answer)

    events = launched(tmp_path / "runs", altering)
    assert finished(events) == ["seed1", "seed3"]
    assert [e for e in events if isinstance(e, Said) and "seed2" in e.text and "history.jsonl" in e.text]
    assert statuses(tmp_path / "runs")[2] == "lost"
    assert finished(launched(tmp_path / "runs")) == ["seed2"]


def test_half_a_file_of_a_killed_worker_is_gone_when_the_sweep_ends(tmp_path: Path) -> None:
    def half(task: Any) -> None:
        folder = tmp_path / "runs" / "members" / task[0].key
        folder.mkdir(parents=True)
        (folder / f"{TEMPORARY}0badf00d").write_text("{")

    launched(tmp_path / "runs", dying(1, then=half), plan=prepare(config()))
    assert set(statuses(tmp_path / "runs").values()) == {"ok"}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(TEMPORARY)]


def test_fail_fast_and_stop_leave_the_rest_pending(tmp_path: Path) -> None:
    plan = prepare(config(params={"fail": 1}))
    launched(tmp_path / "runs", plan=plan, fail_fast=True)
    assert statuses(tmp_path / "runs") == {1: "failed", 2: "pending", 3: "pending"}
    launch = Launch(plan, tmp_path / "runs", inline, own_process=False)
    for event in launch:
        if isinstance(event, Finished):
            launch.stop("enough")
    assert statuses(tmp_path / "runs") == {1: "failed", 2: "ok", 3: "pending"}
    assert not list((tmp_path / "runs").glob("stop-*"))


def test_more_seeds_are_asked_for_when_nothing_is_left(tmp_path: Path) -> None:
    waves = iter([[4], [4, 5], []])
    events = launched(tmp_path / "runs", more=lambda store: next(waves))
    assert finished(events) == [f"seed{n}" for n in (1, 2, 3, 4, 5)]
    log = Store.open(tmp_path / "runs").manifest.seed_log
    assert [entry.added for entry in log] == [(1, 2, 3), (4,), (5,)]


def test_one_seed_alone_joins_and_leaves_the_others(tmp_path: Path) -> None:
    launched(tmp_path / "runs", only=(2,))
    assert statuses(tmp_path / "runs") == {1: "pending", 2: "ok", 3: "pending"}
    assert finished(launched(tmp_path / "runs")) == ["seed1", "seed3"]


def test_a_run_that_somebody_trains_is_left_alone(tmp_path: Path) -> None:
    plan = prepare(config())
    store = Store.create(tmp_path / "runs", manifest_of(plan))
    attempt = store.begin(next(iter(plan)))  # of this process, which lives
    scratch = attempt.path / ".tmp-being-written"
    scratch.touch()
    with pytest.raises(StoreError, match="being trained by another command"):
        launched(tmp_path / "runs", plan=plan)
    assert scratch.exists()


def ticking(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
    yield Tick()
    yield from inline(pull, work, job)


@pytest.mark.parametrize("far", [Begun, Tick])
def test_a_sweep_refuses_a_directory_that_an_ml_train_has_entered(tmp_path: Path, far: type) -> None:
    """Before its attempt is begun as well: to take away its mark, or a file that it writes, would spoil its run."""
    out = tmp_path / "runs"
    single = iter(Launch(prepare(config()), out, ticking, own_process=False, only=(2,)))
    assert any(isinstance(event, far) for event in single)
    before = {*out.rglob("*")}
    assert not list(out.rglob("attempt-*"))
    with pytest.raises(StoreError, match=r"ml-train is using this directory \(pid"):
        launched(out)
    assert {*out.rglob("*")} - before <= {out / "lock"}
    assert before <= {*out.rglob("*")}
    assert finished(list(single)) == ["seed2"]
    assert finished(launched(out)) == ["seed1", "seed3"]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_a_launch_on_another_host_writes_is_left_alone(tmp_path: Path, elsewhere: bool) -> None:
    """Unlike what a launch of this host has left, of which is known that it has ended."""
    out = tmp_path / "runs"
    launched(out, only=(2,))
    owner = replace(this_process(), pid=2**30, **({"host": "another"} if elsewhere else {}))
    files = [out / f"{TOKEN}{owner.nonce}", out / f"{STOP}{owner.nonce}", out / f"{TEMPORARY}{owner.nonce}"]
    files.append(next(out.rglob("attempt-*")) / f"{TEMPORARY}{owner.nonce}")
    for file in files:
        file.write_text(json.dumps(owner.to_json()))
    assert finished(launched(out)) == ["seed1", "seed3"]
    assert {file.exists() for file in files} == {elsewhere}


def test_what_outlives_a_dead_engine_has_ended_when_the_launch_is_over(tmp_path: Path) -> None:
    process: Any = None

    def engine(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        nonlocal process
        pack, ready = pull(), multiprocessing.get_context("fork").Event()

        def train() -> None:
            store, held = Store.open(Path(job.path)), bytearray(b"x") * (1 << 30)  # much memory takes long to give back
            store.begin(pack[0], job.launch)
            ready.set()
            time.sleep(len(held))

        process = multiprocessing.get_context("fork").Process(target=train)
        process.start()
        assert ready.wait(60)
        yield Gone("the machine's server no longer answers")

    launched(tmp_path / "runs", engine)
    assert statuses(tmp_path / "runs") == {1: "lost", 2: "pending", 3: "pending"}  # 1 was "running", for a moment
    process.join()


def test_ticks_are_passed_on(tmp_path: Path) -> None:
    def ticking(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        yield Tick()
        yield from inline(pull, work, job)

    assert Tick() in launched(tmp_path / "runs", ticking)


def test_a_job_asks_for_the_threads_a_run_has(tmp_path: Path) -> None:
    asked: list[Job] = []

    def engine(pull: Any, work: Any, job: Job) -> Iterator[EngineEvent]:
        asked.append(job)
        return inline(pull, work, job)

    launched(tmp_path / "runs", engine, plan=prepare(config(threads=2)), jobs=3)
    assert [(job.at_once, job.cpus, job.gpus) for job in asked] == [(3, 2, 0)]


def test_a_device_is_resolved_before_anything_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr("sweep.prepare.os.path.exists", lambda path: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(EnvironmentRefused, match="no CUDA device"):
        resolve_device("cuda")
