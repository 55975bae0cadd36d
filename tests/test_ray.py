"""On real Ray: the same bits as in this process, and each seed counted once whatever dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toys

import sweep
from sweep import Results
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.engine import Done, RayEngine
from sweep.errors import EnvironmentRefused
from sweep.job import Accident, Job
from sweep.launch import Event, Retried
from sweep.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """One local Ray for all tests here; `sweep.run` finds it started and leaves it running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(toys.__file__).parent))
        for name, value in ENVIRONMENT_FOR_DETERMINISM.items():
            patch.setenv(name, value)
        made = RayEngine(cpus=2, environment=ENVIRONMENT_FOR_DETERMINISM)
        made.start()
        yield made
        made.close()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: RayEngine) -> None:
    engine._ready()
    monkeypatch.chdir(tmp_path)


def digests(results: Results) -> dict[int, dict[str, str]]:
    return {m.seed: dict(m.record.digests) for m in results.store.scan() if m.record is not None}


@pytest.mark.usefixtures("no_canary")
def test_ray_and_this_process_give_the_same_bits() -> None:
    config = {"name": "weights", "train": "toys:weights", "deterministic": True}
    on_ray = sweep.run(config, seeds=[1, 2, 3], engine="ray", jobs=1, out="on_ray")
    inline = sweep.run(config, seeds=[3, 2, 1], engine="inline", out="inline")
    assert on_ray.frame["status"].tolist() == ["ok"] * 3
    assert digests(on_ray) == digests(inline)
    assert len({d["final"] for d in digests(on_ray).values()}) == 3


def killing(tally: Path, times: int) -> tuple[Results, list[Event]]:
    tally.mkdir()
    config = {"name": "killed", "train": "toys:killed",
              "params": {"tally": str(tally), "seed": 2, "times": times}}  # fmt: skip
    events: list[Event] = []
    return sweep.run(config, seeds=[1, 2, 3], engine="ray", on_event=events.append), events


def test_a_seed_whose_worker_was_killed_is_retried_and_counted_once(tmp_path: Path) -> None:
    results, events = killing(tmp_path / "tally", times=1)
    assert results.frame["status"].tolist() == ["ok"] * 3
    assert results.frame["seed"].tolist() == [1, 2, 3]
    assert sorted(os.listdir(tmp_path / "tally")) == ["1-0", "2-0", "2-1", "3-0"]
    assert [e.key for e in events if isinstance(e, Retried)] == ["seed2"]
    member = next(m for m in results.store.scan() if m.seed == 2)
    assert member.record is not None
    assert (member.attempts, member.record.attempts) == (2, 2)
    assert "3 planned = 3 ok + 0 failed + 0 lost + 0 pending" in str(results)


def test_a_seed_that_kills_its_worker_three_times_has_failed_and_the_others_have_not(tmp_path: Path) -> None:
    results, _ = killing(tmp_path / "tally", times=99)
    assert results.frame["status"].tolist() == ["ok", "failed", "ok"]
    assert sorted(os.listdir(tmp_path / "tally")) == ["1-0", "2-0", "2-1", "2-2", "3-0"]
    member = next(m for m in results.store.scan() if m.seed == 2)
    assert member.record is not None
    assert member.record.failure is not None
    assert member.record.failure.kind == "killed"
    assert member.record.attempts == 3
    assert "1 of 3 failed" in str(results)


def test_a_time_limit_ends_the_run_and_not_its_worker(tmp_path: Path) -> None:
    (tmp_path / "tally").mkdir()
    config = {"name": "patient", "train": "toys:patient", "params": {"tally": str(tmp_path / "tally")}, "timeout": 1}
    results = sweep.run(config, seeds=[1], engine="ray")
    member = next(results.store.scan())
    assert member.record is not None
    assert member.record.failure is not None
    assert member.record.failure.kind == "timeout"
    log = results.store.log(member)
    assert log is not None
    assert "in patient" in log.read_text()  # its stacks at that moment


@pytest.mark.parametrize("forks", [False, True])
def test_the_engine_answers_for_a_worker_that_died_and_keeps_to_its_slots(engine: RayEngine, forks: bool) -> None:
    """That may be the doing of its runs, unless these have processes of their own."""
    tasks: list[Any] = [(1,), (2,), (3,)]
    given: list[Any] = []
    answers: dict[Any, Any] = {}

    def work(task: tuple[int, ...]) -> list[int]:
        if task[0] == 2:
            os._exit(1)
        return [task[0] * 10]

    def pull() -> Any:
        if not tasks:
            return None
        assert len(given) == len(answers), "another one is under way"
        given.append(tasks.pop(0))
        return given[-1]

    same_ray = RayEngine(forks=forks)
    for event in same_ray(pull, work, Job(at_once=1)):
        if isinstance(event, Done):
            answers[event.bundle] = event.answer
    ((accident,)) = answers.pop((2,))
    assert answers == {(1,): [10], (3,): [30]}
    assert isinstance(accident, Accident)
    assert accident.poison is not forks
    same_ray.close()


def test_what_no_node_can_hold_is_refused_at_once(engine: RayEngine) -> None:
    with pytest.raises(EnvironmentRefused, match="64 CPUs"):
        next(iter(engine(lambda: ("task",), lambda task: [], Job(cpus=64))))


def test_a_vectorised_pack_on_a_cpu_asks_ray_for_no_gpu(tmp_path: Path) -> None:
    params = {"model": {"name": "mlp", "hidden": [8]}, "data": {"name": "digits", "limit": 200}, "epochs": 1}
    sweep.run(seeds=range(2), params=params, vectorize=2, device="cpu", out=tmp_path / "out")
    assert [member.status for member in Store.open(tmp_path / "out").scan()] == ["ok"] * 2
