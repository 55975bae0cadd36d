"""A run directory as its readers see it: every planned run once, whatever lies in it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import failure, planned, sweep_of

from sweep.errors import IntegrityError, StoreError
from sweep.plan import RunSpec
from sweep.store import Manifest, Member, Predictions, Record, Store, atomic
from sweep.store.owner import this_process

HOSTILE = ["a'; echo foo", "a b", "-rf", "ünï", "a\nb", "%s", "$(touch x)", "a#b?c", "..a"]


def outcome(spec: RunSpec) -> dict[str, Any] | None:
    made: dict[int, dict[str, Any] | None] = {
        0: {"metrics": {"test/accuracy": 0.5}, "history": [{"step": 1, "loss": 0.5}],
            "predictions": {"test": Predictions(np.arange(2), np.zeros(2), probs=np.ones((2, 1)))}},
        1: {"failure": failure("raised", "boom")},
        2: {"lost": True, "history": [{"step": 1, "loss": 0.5}]},
        3: None,
    }  # fmt: skip
    return made[spec.seed]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sweep_of(tmp_path / "runs", outcome, seeds=range(4))


def seed(store: Store, number: int, **options: Any) -> Member:
    (found,) = (m for m in store.scan(**options) if m.seed == number)
    return found


def statuses(store: Store, **options: Any) -> dict[int, str]:
    return {m.seed: m.status for m in store.scan(**options)}


def test_each_status_is_told_apart(store: Store) -> None:
    assert statuses(store) == {0: "ok", 1: "failed", 2: "lost", 3: "pending"}
    assert statuses(Store.open(store.path), verify=True) == statuses(store)
    assert str(seed(store, 1).record and seed(store, 1).record.failure) == "raised: boom"
    assert all(store.member(m.key) == m for m in store.scan())


def test_an_attempt_of_a_living_process_is_running(store: Store) -> None:
    spec = next(iter(planned([3], [""], [""], 1, deterministic=False)))
    store.begin(spec)
    assert statuses(store)[3] == "running"


def test_of_another_host_only_the_launch_can_be_asked(store: Store) -> None:
    spec = next(iter(planned([3], [""], [""], 1, deterministic=False)))
    attempt = store.begin(spec, launch="abc")
    about = attempt.path / "attempt.json"
    body = {**atomic.loads(about.read_bytes()), "host": "elsewhere"}
    about.write_text(atomic.dumps(body))
    assert statuses(store)[3] == "lost"
    launch = replace(this_process(), nonce="abc")
    (store.path / "lock").write_text(atomic.dumps(launch.to_json()))
    assert statuses(store)[3] == "running"
    (store.path / "lock").write_text(atomic.dumps(replace(launch, nonce="other").to_json()))
    assert statuses(store)[3] == "lost"


def test_order_is_planned_and_never_that_of_completion(tmp_path: Path) -> None:
    made = sweep_of(
        tmp_path / "a", lambda spec: {"metrics": {"a": 1.0}}, seeds=[9, 10, 2], variants=["b-1", "a-2"], repeats=2
    )
    found = [(m.variant, m.seed, m.repeat) for m in made.scan()]
    assert found == [(v, s, r) for v in ("b-1", "a-2") for s in (2, 9, 10) for r in (0, 1)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_copied_or_renamed_directory_reads_the_same(store: Store, tmp_path: Path, name: str) -> None:
    copy = Store.open(shutil.copytree(store.path, tmp_path / name))
    assert statuses(copy, verify=True) == statuses(store)
    assert copy.history(seed(copy, 0)) == [{"step": 1, "loss": 0.5}]
    assert copy.splits(seed(copy, 0)) == ["test"]
    found = copy.predictions(seed(copy, 0), "test")
    assert found is not None
    assert found.ids.tolist() == [0, 1]


def _artifact(store: Store, name: str) -> Path:
    folder = seed(store, 0).folder
    assert folder is not None
    return folder / name


def cut_record(store: Store) -> None:
    path = seed(store, 0).path / "record.json"
    path.write_bytes(path.read_bytes()[:-40])


def flip_artifact(store: Store) -> None:
    path = _artifact(store, "predictions-test.npz")
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


def cut_artifact(store: Store) -> None:
    os.truncate(_artifact(store, "history.jsonl"), 3)


def drop_artifact(store: Store) -> None:
    _artifact(store, "history.jsonl").unlink()


def link_artifact_out(store: Store) -> None:
    path = _artifact(store, "history.jsonl")
    outside = shutil.copy(path, store.path.parent / "outside.jsonl")
    path.unlink()
    path.symlink_to(outside)


def link_record_out(store: Store) -> None:
    path = seed(store, 0).path / "record.json"
    outside = shutil.move(path, store.path.parent / "outside.json")
    path.symlink_to(outside)


def record_of_another_seed(store: Store) -> None:
    shutil.copy(seed(store, 1).path / "record.json", seed(store, 0).path / "record.json")


def record_of_another_experiment(store: Store) -> None:
    other = sweep_of(store.path.parent / "other", outcome, seeds=[0], deterministic=True)
    shutil.rmtree(store.path / "members" / "seed0")
    shutil.copytree(other.path / "members" / "seed0", store.path / "members" / "seed0")


def record_is_a_folder(store: Store) -> None:
    (seed(store, 0).path / "record.json").unlink()
    (seed(store, 0).path / "record.json").mkdir()


@pytest.mark.parametrize(
    "harm",
    [
        cut_record, flip_artifact, cut_artifact, drop_artifact, link_artifact_out, link_record_out,
        record_of_another_seed, record_of_another_experiment, record_is_a_folder,
    ],
)  # fmt: skip
def test_a_damaged_run_is_lost_with_its_reason_and_the_rest_are_what_they_were(
    store: Store, harm: Callable[[Store], None]
) -> None:
    harm(store)
    assert statuses(store, verify=True) == {0: "lost", 1: "failed", 2: "lost", 3: "pending"}
    assert seed(store, 0, verify=True).note


def test_altered_bytes_are_never_handed_out(store: Store) -> None:
    member = seed(store, 0)
    flip_artifact(store)
    assert seed(store, 0).status == "ok"  # the size is right: only hashing tells
    with pytest.raises(IntegrityError, match="not what was recorded"):
        store.predictions(member, "test")


def test_a_damaged_record_is_moved_aside_and_kept(store: Store) -> None:
    cut_record(store)
    member = seed(store, 0)
    data = (member.path / "record.json").read_bytes()
    store.set_aside(member)
    assert seed(store, 0).note == ""
    (kept,) = member.path.glob("record.corrupt-*.json")
    assert kept.read_bytes() == data


def test_a_failed_record_moved_into_its_attempt_is_counted(store: Store) -> None:
    store.set_aside(seed(store, 1))
    member = seed(store, 1)
    assert (member.status, member.retried, member.attempts) == ("lost", 1, 1)


def test_litter_changes_nothing(store: Store) -> None:
    before = statuses(store)
    members = store.path / "members"
    (members / "seed99").mkdir()
    (members / "seed3").write_text("a file where a folder belongs")
    (members / "seed0" / "attempt-zzz").write_text("a file")
    (members / "seed0" / "attempt-yyy").symlink_to(store.path.parent)
    (members / "seed0" / ".tmp-01234567").write_text("of a killed writer")
    (store.path / "stop-89abcdef").touch()
    theirs = [store.path / "stop-words.txt", store.path / "launch-plan", members / "seed0" / ".tmp-notes"]
    theirs += [members / "seed99" / ".tmp-01234567"]
    for path in theirs:
        path.write_text("somebody's")
    assert statuses(store) == before
    store.clean()
    assert not list((members / "seed0").glob(".tmp-0*"))
    assert not (store.path / "stop-89abcdef").exists()
    # What only begins like a name of ours, or lies where no planned run is, stays.
    assert all(path.exists() for path in theirs)


def test_a_member_that_is_a_link_out_is_not_followed(store: Store, tmp_path: Path) -> None:
    moved = shutil.move(store.path / "members" / "seed0", tmp_path / "elsewhere")
    (store.path / "members" / "seed0").symlink_to(moved)
    assert statuses(store)[0] == "pending"


def test_a_hostile_manifest_leads_nowhere(tmp_path: Path) -> None:
    sweep_of(tmp_path / "secret", lambda spec: {"metrics": {"a": 1.0}}, seeds=[0])
    store = sweep_of(tmp_path / "runs", outcome, seeds=[3])
    experiment = {**store.manifest.experiment, "cells": [{"task": "", "variant": "../../secret/members"}]}
    hostile = Store(store.path, replace(store.manifest, experiment=experiment, seeds=(0,)))
    (member,) = hostile.scan()
    assert member.status != "ok"
    assert member.record is None


def manifest(**changes: Any) -> Manifest:
    plan = planned([0, 1], [""], [""], 1, deterministic=False)
    return Manifest("made-up", {}, {**plan.experiment(), **changes}, plan.config.seeds)


def test_the_same_experiment_again_changes_nothing(tmp_path: Path) -> None:
    Store.create(tmp_path / "runs", manifest())
    before = (tmp_path / "runs" / "sweep.json").read_bytes()
    Store.create(tmp_path / "runs", manifest())
    assert (tmp_path / "runs" / "sweep.json").read_bytes() == before


def test_another_experiment_is_refused_with_a_diff(tmp_path: Path) -> None:
    Store.create(tmp_path / "runs", manifest())
    with pytest.raises(StoreError, match=r"threads: 1 -> 2\n.*--out"):
        Store.create(tmp_path / "runs", manifest(threads=2))


def test_more_seeds_are_logged_with_whether_results_were_there(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "runs", outcome, seeds=[3])
    store.extend([0])
    assert store.manifest.extensions == 0  # nothing had been there to look at
    store = sweep_of(tmp_path / "more", outcome, seeds=[0])
    store.extend([3], note="because")
    again = Store.open(store.path).manifest
    assert again.seeds == (0, 3)
    assert (again.extensions, again.seed_log[-1].note) == (1, "because")


def test_a_file_or_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "dangling" / "below"):
        with pytest.raises(StoreError):
            Store.create(path, manifest())
    with pytest.raises(StoreError, match="is a file"):
        Store.open(tmp_path / "file")
    with pytest.raises(StoreError, match="there is no sweep here"):
        Store.open(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="not writable"):
        Store.create(tmp_path / "runs", manifest())


def test_a_run_that_was_never_planned_has_no_member(store: Store) -> None:
    with pytest.raises(StoreError, match="no run 'seed99' in its plan"):
        store.member("seed99")


def test_a_thousand_seeds_are_each_told_once(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "runs", lambda spec: None, seeds=range(1000))
    assert Counter(m.status for m in store.scan()) == {"pending": 1000}
    assert len({m.key for m in store.scan()}) == 1000


def test_a_record_keeps_every_metric(store: Store) -> None:
    member = seed(store, 0)
    assert isinstance(member.record, Record)
    assert member.record.metrics == {"test/accuracy": 0.5}


@pytest.mark.parametrize("verify", [False, True])
def test_a_file_of_the_users_that_changes_later_is_a_note_and_costs_no_run(tmp_path: Path, verify: bool) -> None:
    plan = planned([0], [""], [""], 1, deterministic=False)
    store = Store.create(tmp_path / "runs", Manifest("made-up", {}, plan.experiment(), plan.config.seeds))
    (spec,) = plan
    attempt = store.begin(spec)
    (attempt.path / "mine.csv").write_text("1,2\n")
    (attempt.path / "gone.csv").write_text("1,2\n")
    attempt.log_row(1, {"loss": 0.5})
    made = Record(
        spec=spec.to_json(), spec_id=spec.id, status="ok", attempt=attempt.nonce, attempts=1,
        metrics={"test/accuracy": 0.5}, artifacts=attempt.artifacts(),
    )  # fmt: skip
    assert store.commit(attempt, made)
    with open(attempt.path / "mine.csv", "a") as file:  # as a logger does that nobody has closed
        file.write("3,4\n")
    (attempt.path / "gone.csv").unlink()
    found = seed(store, 0, verify=verify)
    assert found.status == "ok"
    assert "mine.csv changed" in found.note
    assert "gone.csv is missing" in found.note
    os.truncate(attempt.path / "history.jsonl", 3)  # one of ours, which the results hang on
    assert seed(store, 0, verify=verify).status == "lost"
