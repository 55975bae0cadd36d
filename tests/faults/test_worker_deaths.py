"""How a worker of a real Ray can end, and what its seed is called then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kit
import pytest

import sweep
from sweep.engine import RayEngine

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", kit.environment()["PYTHONPATH"])
        made = RayEngine(cpus=2)
        made.start()
        yield made
        made.close()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: RayEngine) -> None:
    engine._ready()
    monkeypatch.chdir(tmp_path)


def ended(how: str, **settings: Any) -> sweep.Results:
    config = {"name": "ends", "train": "victims:ends", "params": {"how": how, "seed": 2}, **settings}
    results = sweep.run(config, seeds=[1, 2, 3], engine="ray")
    assert results.frame["status"].tolist() == ["ok", "failed", "ok"]
    return results


def failure(results: sweep.Results) -> str:
    member = next(m for m in results.store.scan() if m.seed == 2)
    assert member.record is not None
    return str(member.record.failure)


@pytest.mark.parametrize(
    ("how", "said"),
    [("os._exit", "killed: 1 attempt gave no result"), ("abort", "SIGABRT"), ("segmentation fault", "SIGSEGV")],
)
def test_cases_5_6_a_worker_that_ends_is_never_a_success(how: str, said: str) -> None:
    results = ended(how, retries=0)
    assert said in failure(results)
    assert "1 of 3 failed" in str(results)


def test_case_25_a_run_that_hangs_is_ended_with_its_stack_in_its_log() -> None:
    results = ended("asleep", timeout=2)
    assert failure(results).startswith("timeout: still running after 2 s")
    member = next(m for m in results.store.scan() if m.seed == 2)
    log = results.store.log(member)
    assert log is not None
    assert "victims.py" in log.read_text()


@pytest.mark.parametrize(("how", "status"), [("", "ok"), ("a setting", "ok"), ("a CUDA error", "failed")])
def test_cases_24_92_no_seed_sees_what_another_has_made_of_its_process(tmp_path: Path, how: str, status: str) -> None:
    tally = tmp_path / "tally"
    tally.mkdir()
    config = {"name": "soils", "train": "victims:soils", "params": {"tally": str(tally), "how": how}}
    results = sweep.run(config, seeds=[1, 2, 3], engine="ray", jobs=1)
    assert results.frame["status"].tolist() == [status, "ok", "ok"]
    assert results.frame["attempts"].tolist() == [1, 1, 1]
    assert len(list(tally.iterdir())) == 3  # what was committed was not trained again
    assert len({path.name.split("-")[1] for path in tally.iterdir()}) == 3
