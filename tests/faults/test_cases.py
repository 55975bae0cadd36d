"""Cases of the catalogue that a short sweep in one process shows; the table of all is README.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kit
import pytest
from finished import accuracies, sweep_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Nursery
from predicted import read

import sweep
from sweep.errors import IntegrityError, SweepError
from sweep.store import Store, history, lock
from sweep.store.attempt import Attempt
from sweep.store.owner import this_process

RUN = ["run", "faults.yaml", "--engine", "inline", "--seeds", "1-3", "--out", "runs"]


def config(folder: Path, **changes: Any) -> None:
    (folder / "faults.yaml").write_text(json.dumps({"name": "faults", "train": "victims:steps", **changes}))


def statuses(path: Path) -> dict[int, str]:
    return {m.seed: m.status for m in Store.open(path).scan(verify=True)}


@pytest.fixture(scope="module")
def made(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    config(folder)
    trial = nursery.run(RUN, folder)
    assert trial.code == 0, trial.output
    return folder


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    """A finished sweep of seeds 1 to 3."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("exit 1", "raised"),
        ("interrupt", "raised"),
        ("generator exit", "raised"),
        ("needs arguments", "raised"),
        ("memory", "out of memory"),
        ("nan", "diverged"),
        ("inf", "diverged"),
        ("a bool", "no usable metrics"),
        ("a line in a name", "no usable metrics"),
        ("a long name", "no usable metrics"),
        ("no deterministic kernel", "nondeterministic"),
    ],
)
def test_cases_7_8_9_84_94_98_99_a_seed_that_fails_is_one_of_three(
    nursery: Nursery, tmp_path: Path, how: str, kind: str
) -> None:
    config(tmp_path, train="victims:ends", params={"how": how, "seed": 3})
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 1, trial.output
    assert "Traceback" not in trial.output
    assert f"seed3: {kind}" in trial.output
    assert "3 planned = 2 ok + 1 failed + 0 lost + 0 pending" in trial.output
    again = nursery.run(RUN, tmp_path)
    assert (again.code, "nothing to train" in again.output) == (1, True)


@pytest.mark.parametrize("how", ["disk full", "disk full in torch"])
def test_cases_33_36_a_full_disk_seen_by_the_users_code_is_no_failure_of_its_seed(
    nursery: Nursery, tmp_path: Path, how: str
) -> None:
    config(tmp_path, train="victims:ends", params={"how": how, "seed": 2})
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 1, trial.output
    assert "no more runs are started" in trial.output
    assert statuses(tmp_path / "runs") == {1: "ok", 2: "lost", 3: "pending"}


def test_case_37_a_limit_on_file_sizes_is_a_full_disk(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path, params={"epochs": 3})
    trial = nursery.run(RUN, tmp_path, file_size=3000)
    assert trial.code == 1, trial.output
    assert "File too large" in trial.output
    assert "Traceback" not in trial.output
    assert set(kit.credible(tmp_path / "runs").values()) <= {"lost", "pending"}
    again = nursery.run(RUN, tmp_path)
    assert again.code == 0, again.output
    kit.whole(tmp_path / "runs", [1, 2, 3])


def test_case_35_a_report_that_cannot_be_written_costs_no_result(nursery: Nursery, finished: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    before = kit.tree(finished)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sweep.cli", "report", str(finished)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=kit.environment(),
            text=True,
        )
    assert done.returncode not in (0, None)
    assert "No space left" in done.stderr
    assert kit.tree(finished) == before


@pytest.mark.parametrize("what", ["record", "whole folder", "model", "history", "record of another seed"])
def test_cases_43_48_57_what_a_user_deletes_or_edits_is_reported_and_only_that_is_trained_again(
    nursery: Nursery, finished: Path, what: str
) -> None:
    want = kit.tree(finished)
    members = {m.seed: m for m in Store.open(finished).scan()}
    folder = members[2].folder
    assert folder is not None
    if what == "record":
        (members[2].path / "record.json").unlink()
    elif what == "whole folder":
        shutil.rmtree(members[2].path)
    elif what == "model":
        (folder / "model.safetensors").unlink()
    elif what == "history":
        (folder / "history.jsonl").write_text((folder / "history.jsonl").read_text().replace("1", "2"))
    else:
        shutil.copy(members[1].path / "record.json", members[2].path / "record.json")
    assert {s: st for s, st in statuses(finished).items() if s != 2} == {1: "ok", 3: "ok"}
    assert statuses(finished)[2] in ("lost", "pending")
    untouched = {p: p.stat().st_mtime_ns for s in (1, 3) for p in members[s].path.rglob("*")}
    trial = nursery.run(RUN, finished.parent)
    assert trial.code == 0, trial.output
    assert "2 of 3 runs are here already; 1 to train" in trial.output
    kit.whole(finished, [1, 2, 3])
    assert kit.tree(finished) == want
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched


def test_cases_58_59_a_moved_directory_with_new_times_goes_on_without_training(
    nursery: Nursery, finished: Path
) -> None:
    moved = finished.parent / "else where" / "moved"
    shutil.copytree(finished, moved, copy_function=shutil.copy)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    shutil.rmtree(finished)
    trial = nursery.run([*RUN[:-1], str(moved)], finished.parent)
    assert trial.code == 0, trial.output
    assert "nothing to train" in trial.output
    kit.whole(moved, [1, 2, 3])
    assert nursery.run(["report", str(moved)], finished.parent).code == 0


def test_cases_71_72_89_other_orders_and_subsets_train_nothing_and_report_all(nursery: Nursery, finished: Path) -> None:
    before = kit.tree(finished)
    reports = []
    for seeds in ("3,1,2", "2", "1-3"):
        trial = nursery.run([*RUN[:5], seeds, *RUN[6:]], finished.parent)
        assert trial.code == 0, trial.output
        assert "nothing to train" in trial.output
        reports.append(trial.output)
    assert len(set(reports)) == 1
    assert kit.tree(finished) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"params": {"epochs": 4}}, "epochs: 3 -> 4"),
        ({"train": "victims:brief"}, "reference"),
        ({"threads": 2}, "threads"),
    ],
)
def test_cases_85_86_87_another_config_or_code_is_refused_with_a_diff(
    nursery: Nursery, finished: Path, changes: Mapping[str, Any], said: str
) -> None:
    before = kit.tree(finished)
    config(finished.parent, **changes)
    trial = nursery.run(RUN, finished.parent)
    assert trial.code == 2, trial.output
    assert said in trial.output
    assert "--out" in trial.output
    assert kit.tree(finished) == before


def test_case_29_neither_locale_nor_timezone_changes_a_byte(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path)
    # An interpreter takes the encoding of its files from the locale as it starts, and the rest when code asks for it.
    done = kit.sweep(*RUN[:-1], "runs0", folder=tmp_path, TZ="Pacific/Apia", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    variables = {"TZ": "America/Caracas", "LC_ALL": "de_DE.UTF-8"}
    trial = nursery.run([*RUN[:-1], "runs1"], tmp_path, variables=variables)
    assert trial.code == 0, trial.output
    trees = []
    for out in ("runs0", "runs1"):
        trees.append(kit.tree(tmp_path / out))
        time = json.loads((tmp_path / out / "sweep.json").read_text())["seed_log"][0]["time"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert trees[0] == trees[1]


def test_case_73_74_seeds_that_give_equal_weights_are_said_aloud(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path, train="victims:reseeds")
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 0, trial.output
    assert "seed" in trial.output
    assert re.search(r"same|equal|no effect", trial.output), trial.output


def test_case_107_all_seeds_failed(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path, train="victims:ends", params={"how": "value error"})
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 1, trial.output
    assert "3 planned = 0 ok + 3 failed + 0 lost + 0 pending" in trial.output
    assert "is unlucky" in trial.output
    assert "nan" not in trial.output.lower()


def test_case_69_more_runs_than_a_directory_holds_are_refused_with_the_limit(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path)
    trial = nursery.run([*RUN[:5], "0-999999", *RUN[6:]], tmp_path)
    assert trial.code == 2, trial.output
    assert "1,000,000 runs" in trial.output
    assert "200,000" in trial.output
    assert not (tmp_path / "runs").exists()
    assert trial.seconds < 60


def test_cases_28_32_a_log_without_end_has_a_bounded_size(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path, train="victims:talks")
    trial = nursery.run([*RUN[:5], "1", *RUN[6:]], tmp_path)
    assert trial.code == 0, trial.output
    log = Store.open(tmp_path / "runs").log(next(Store.open(tmp_path / "runs").scan()))
    assert log is not None
    assert log.stat().st_size < 20 << 20
    text = log.read_text()
    assert text.startswith("line 0 ")
    assert "cut" in text
    assert f"line {24_999} " in text


@given(st.binary(max_size=300))
@settings(max_examples=150)
def test_any_bytes_as_any_file_of_a_directory_are_an_answer_or_an_expected_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Every file of a finished directory in turn becomes these bytes."""
    root = tmp_path_factory.getbasetemp() / "any-bytes"
    if not root.exists():
        sweep_of(root, accuracies({0: 0.1, 1: 0.2}), seeds=range(2))
    for name in ("sweep.json", "lock", "members/seed0/record.json"):
        path = root / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(data)
        try:
            seen = [m.status for m in Store.open(root).scan(verify=True)]
            assert seen in (["ok", "ok"], ["lost", "ok"])
            assert seen[0] != "ok" or name == "lock"
        except SweepError as error:
            if name != "sweep.json" or str(root) not in str(error):
                raise
        finally:
            path.unlink() if before is None else path.write_bytes(before)


@given(st.binary(max_size=400))
@settings(max_examples=150)
def test_any_bytes_as_history_lock_checkpoint_or_predictions_end_no_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "one-file"
    folder.mkdir(exist_ok=True)
    for name in ("history.jsonl", "lock", "checkpoint-000000001.json", "predictions-test.npz"):
        (folder / name).write_bytes(data)
    (folder / "checkpoint-000000001.pt").write_bytes(data)
    rows = history.read(folder / "history.jsonl")
    assert all(isinstance(row["step"], int) for row in rows)
    history.last(folder / "history.jsonl")
    lock.read_owner(folder / "lock")
    found = list(Attempt(folder, "id", this_process(), 1).checkpoints())
    assert all(isinstance(about, str) for _, about in found)
    with pytest.raises(SweepError):
        read(folder / "predictions-test.npz")


def test_case_45_a_flipped_digit_of_a_recorded_history_is_shown_nowhere(nursery: Nursery, tmp_path: Path) -> None:
    config(tmp_path)
    assert nursery.run(RUN, tmp_path).code == 0
    out = tmp_path / RUN[-1]
    member = next(Store.open(out).scan())
    assert member.folder is not None
    path = member.folder / "history.jsonl"
    text = path.read_text()
    digit = next(i for i, c in enumerate(text) if c.isdigit() and i > text.index("train/loss"))
    path.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    with pytest.raises(IntegrityError, match=r"history.jsonl: its content is not what was recorded"):
        _ = sweep.open(out).history
    trial = nursery.run(["export", str(out), "--to", "csv"], tmp_path)
    assert trial.code == 3, trial.output
    trial = nursery.run(["report", str(out), "--html", "page.html"], tmp_path)
    assert trial.code == 0, trial.output
    assert f"differs from the recorded one: {member.key}" in (tmp_path / "page.html").read_text()
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 0, trial.output
    assert "history.jsonl is not what was recorded; this run is trained again" in trial.output
    assert sweep.open(out).history["seed"].nunique() == len(list(Store.open(out).scan()))
