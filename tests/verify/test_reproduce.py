"""A deterministic sweep is stamped with evidence, and can be trained again from a copy of its directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import SMALL, spec_of

import sweep
from sweep import forkserver
from sweep.cli.app import main
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.errors import EnvironmentRefused, StoreError, TargetError
from sweep.launch import Said
from sweep.plan import Target
from sweep.store import Record, Store
from sweep.store.shape import seal
from sweep.target.trust import harmless, require_trust
from sweep.verify.reproduce import reproduce
from sweep.verify.subject import of_directory, require_same_code

CONFIG: dict[str, Any] = {"name": "small", "params": SMALL, "deterministic": True, "seeds": [1, 2]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "made"
    sweep.run(CONFIG, out=out, engine="inline")
    return out


@pytest.fixture
def copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if it came from another machine, with the environment that `sweep` gives its processes."""
    for name, value in ENVIRONMENT_FOR_DETERMINISM.items():
        monkeypatch.setenv(name, value)
    return Path(shutil.copytree(made, tmp_path / "a copy" / "of it"))


def altered(directory: Path, seed: int, change: Callable[[Record], Record]) -> None:
    member = Store.open(directory).member(f"seed{seed}")
    assert member.record is not None
    (member.path / "record.json").write_bytes(seal(change(member.record)))


def test_the_stamp_carries_its_evidence(made: Path) -> None:
    found = sweep.open(made)
    stamp = found.store.manifest.stamp
    # The first run was the canary's; the shortest that was not the first in its process was trained again whole.
    assert (stamp["status"], stamp["how"], stamp["extent"]) == ("proven", "repeat", "whole")
    again = next(m for m in found.store.scan() if m.key == stamp["key"])
    assert again.record
    assert again.record.context["first_in_process"] is False
    assert (stamp["steps"], stamp["processes"]) == (5, 3)
    assert all(m.record and m.record.environment["fill_uninitialized_memory"] is False for m in found.store.scan())
    said = found.report.reproducibility
    assert said.startswith(f"proven (all of {stamp['key']} was trained again in another process: ")
    assert "sampled (first 5 steps of 1 of " in said
    assert "canary of seed1: 2 processes, 5 steps, torch " in said
    assert "initial weights and data order (first batch) equal in the sweep's worker" in said
    assert "memory fill off, same bits if on" in said


def test_fast_mode_is_not_stamped(tmp_path: Path) -> None:
    found = sweep.run({**CONFIG, "deterministic": False, "seeds": [1]}, out=tmp_path / "fast", engine="inline")
    assert found.store.manifest.stamp == {}
    assert found.report.reproducibility == "not checked"


@pytest.mark.walk
def test_a_sweep_that_differs_is_stamped_so_and_trained_no_more_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of("planted:train")  # makes the module known
    assert spec.target.kind == "function"
    config = {"train": "planted:train", "params": {"layer": "clock"}, "deterministic": True, "seeds": [3]}
    events: list[Any] = []
    found = sweep.run(config, out=tmp_path / "out", engine="inline", on_event=events.append)
    assert found.store.manifest.stamp["status"] == "differs"
    assert found.report.warnings[0].startswith("this sweep should be bit-exact, but is not: ")
    said = "\n".join(event.text for event in events if isinstance(event, Said))
    assert "canary: the first 5 steps of seed3 are trained twice before the sweep" in said
    assert "sweep verify finds the layer" in said
    # Twice to compare, and the run: nothing is trained again to name the layer.
    assert Path("starts").read_text().splitlines() == ["3 in rehearsal", "3 in rehearsal", "3"]


@pytest.mark.walk
def test_a_sweep_that_is_proven_starts_the_code_of_its_first_seed_four_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec_of("planted:train")
    found = sweep.run({"train": "planted:train", "deterministic": True, "seeds": [3]}, out="out", engine="inline")
    assert found.store.manifest.stamp["status"] == "proven"
    assert Path("starts").read_text().splitlines() == ["3 in rehearsal", "3 in rehearsal", "3", "3 in rehearsal"]


@pytest.mark.walk
def test_memory_that_nobody_wrote_shows_in_the_canary_which_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec_of("planted:train")
    config = {"train": "planted:train", "params": {"layer": "empty"}, "deterministic": True, "seeds": [3]}
    found = sweep.run(config, out="out", engine="inline")
    assert found.store.manifest.stamp["status"] == "differs"


@pytest.mark.walk
def test_more_seeds_from_another_environment_are_refused(copied: Path) -> None:
    altered(copied, 2, lambda r: replace(r, environment={**r.environment, "torch": "1.0"}))
    with pytest.raises(EnvironmentRefused, match=r"torch: 1\.0 then"):
        sweep.run({**CONFIG, "seeds": [1, 2, 3]}, out=copied, engine="inline")
    assert [m.status for m in Store.open(copied).scan()] == ["ok", "ok", "pending"]


def test_a_copied_directory_is_reproduced(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", str(copied), "--seed", "2"]) == 0
    said = capsys.readouterr().out
    assert "seed2: reproduced, bit for bit (3 epochs, 8 digests compared)" in said
    assert "verdict: M" in said


@pytest.mark.walk
def test_verify_compares_a_record_that_was_made_without_the_fill(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(copied, 1, lambda r: replace(r, environment={**r.environment, "hash_seed": "0"}))
    assert main(["verify", str(copied)]) == 0
    assert "proven (2 processes, this one and the record, 3 epochs" in capsys.readouterr().out
    stamp = Store.open(copied).manifest.stamp
    assert stamp["how"] == "verify"
    assert "memory fill off, same bits if on" in stamp["summary"]


def test_a_broken_promise_is_told_from_none(copied: Path) -> None:
    """Negative control: the record claims other weights after epoch 2."""
    lie = {"epoch/2": "0" * 64, "epoch/3": "0" * 64}
    altered(copied, 2, lambda r: replace(
        r, digests={**r.digests, **lie}, environment={**r.environment, "hash_seed": "0"}
    ))  # fmt: skip
    found = reproduce(of_directory(copied, seed=2))
    assert found.broken
    assert found.difference is not None
    assert found.difference.link == "epoch/2"
    assert "weights after epoch 2 between the record and this training" in str(found)
    other = replace(found, verdict=replace(found.verdict, answer="NOT_EXPECTED"))  # type: ignore[arg-type]
    assert not other.equal
    assert not other.broken


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    spec_of("planted:train")
    monkeypatch.setattr(forkserver, "POSSIBLE", False)  # saves the start of a process that nothing here looks at
    config = {"train": "planted:train", "seeds": [5], "name": "theirs"}
    sweep.run(config, out=tmp_path / "theirs", engine="inline")
    return tmp_path / "theirs"


@pytest.mark.walk
def test_of_a_function_the_weights_and_the_metrics_are_compared(strangers: Path) -> None:
    (member,) = Store.open(strangers).scan()
    assert member.record is not None
    assert set(member.record.digests) == {"initial", "final"}  # its code says nothing of them itself
    subject = of_directory(strangers, trust=True)
    found = reproduce(subject)
    assert (found.equal, found.compared) == (True, 2)
    other = replace(member.record, metrics={"test/loss": 0.125})
    found = reproduce(replace(subject, record=other))
    assert found.difference is not None
    assert (found.equal, found.difference.link) == (False, "metrics/test/loss")
    assert "the first difference is in metric test/loss between the record and this training" in str(found)


def test_a_strangers_code_runs_only_when_trusted(
    strangers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    marker = tmp_path / "planted-was-imported"
    monkeypatch.setenv("PLANTED_MARKER", str(marker))
    monkeypatch.delitem(sys.modules, "planted")
    for command in ("reproduce", "verify"):
        assert main([command, str(strangers)]) == 2
        said = capsys.readouterr().err
        assert "import and call 'planted:train'" in said
        assert "--trust" in said
    assert not marker.exists()
    assert of_directory(strangers, trust=True).spec.seed == 5
    assert marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        Target("function", "sweep.store.atomic:write"),
        Target("recipe", "sweep.cli.app:main"),
        Target("function", "sweep.train.recipes:classifier"),
        Target("command", argv=("rm", "-rf", "/")),
    ],
)
def test_only_the_built_in_recipes_are_harmless(target: Target) -> None:
    assert not harmless(target)
    assert harmless(Target("recipe", "sweep.train.recipes:classifier"))


def test_code_or_data_that_changed_are_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = of_directory(made, seed=2).spec
    require_same_code(spec)
    with pytest.raises(StoreError, match="the data have changed"):
        require_same_code(replace(spec, data="0" * 64))
    spec = spec_of("planted:train")
    require_same_code(spec)
    with pytest.raises(StoreError, match="its source has changed"):
        require_same_code(replace(spec, target=replace(spec.target, digest="0" * 64)))


def test_what_is_not_there_is_said(made: Path) -> None:
    with pytest.raises(StoreError, match="no run of seed 9"):
        of_directory(made, seed=9)
    with pytest.raises(TargetError, match="not part of sweep"):
        require_trust(Target("function", "theirs:train"), False, lambda text: None)
