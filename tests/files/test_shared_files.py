"""Files below the launch folder that runs wrote: which of them two runs shared, and which each had of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sweep.cli.app import main
from sweep.results import run
from sweep.shared_files import FEWEST, MOST, SHARE, Share, Shared, Trace, Watch, outputs, shared
from sweep.store import Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


# The catalogue's case: the best epoch is kept in a file and loaded again before the test. Seeds meet at each step, so
# that they are under way side by side, however busy the machine is.
PROGRAM = """
import json, os, pathlib, sys, time
seed, seeds, kept = int(sys.argv[1]), [int(s) for s in sys.argv[2].split(",")], pathlib.Path(sys.argv[3])
here = pathlib.Path(os.environ.get("MEET", "."))
def meet(step):
    (here / f".{step}-{seed}").touch()
    until = time.monotonic() + 60
    while not all((here / f".{step}-{s}").exists() for s in seeds) and time.monotonic() < until:
        time.sleep(0.01)
meet("begun")
kept.parent.mkdir(parents=True, exist_ok=True)
kept.write_text(json.dumps(80 + seed))
meet("written")
score = json.loads(kept.read_text())
meet("read")
print(json.dumps({"test/accuracy": score}))
"""


def traced(*runs: tuple[int, Mapping[str, tuple[int, int]]], ok: bool = True, **params: Any) -> list[Trace]:
    folder = "/".join([*params.values(), "seed"])
    return [
        Trace.of(f"{folder}{seed}", {"seed": seed, "params": params}, ok, {"below": "here", "written": dict(written)})
        for seed, written in runs
    ]


def names(found: tuple[Shared, ...]) -> list[str]:
    return [each.path for each in found if not each.in_turn]


def test_a_file_that_was_written_while_two_runs_were_under_way_marks_both() -> None:
    found = shared(traced((1, {"checkpoints/best.pt": (10, 30)}), (2, {"checkpoints/best.pt": (20, 40)})))
    assert found == (Shared("checkpoints/best.pt", ("seed1", "seed2")),)


def test_a_file_that_runs_write_one_after_the_other_marks_none_and_is_told_apart() -> None:
    found = shared(traced((1, {"best.pt": (10, 20)}), (2, {"best.pt": (20, 30)}), (3, {"best.pt": (30, 40)})))
    assert found == (Shared("best.pt", ("seed1", "seed2", "seed3"), in_turn=True),)
    assert shared(traced((1, {"best.pt": (10, 20)}))) == ()


OWN: dict[str, list[str]] = {
    "seed": ["out/seed_42/best.pt", "out/seed_7/best.pt"],
    "seed in the name": ["best-042.pt", "best-007.pt"],
    "second": ["outputs/2026-11-25/10-00-01/model.pt", "outputs/2026-11-25/10-00-02/model.pt"],
    "uuid": ["runs/3f9a1c77/best.pt", "runs/77ab01f2/best.pt"],
    "version": ["lightning_logs/version_0/hparams.yaml", "lightning_logs/version_1/hparams.yaml"],
    "process": ["runs/events.out.tfevents.1764000000.host.311.0", "runs/events.out.tfevents.1764000000.host.312.0"],
}


@pytest.mark.parametrize("kind", OWN)
def test_names_that_each_run_has_for_itself_are_not_shared(kind: str) -> None:
    both = dict.fromkeys(OWN[kind], (10, 30))
    assert shared(traced((42, both), (7, both))) == ()
    # The control: one name for both.
    one = {OWN[kind][0]: (10, 30)}
    assert names(shared(traced((42, one), (7, one)))) == [OWN[kind][0]]


def test_numbered_epochs_and_variants_of_one_seed_do_not_pass_for_names_of_seeds() -> None:
    epochs = {f"checkpoints/epoch_{n}.pt": (10, 30) for n in range(10)}
    assert len(names(shared(traced((1, epochs), (2, epochs))))) == 10
    same = {"out/seed1/best.pt": (10, 30)}
    assert names(shared(traced((1, same), (1, same)))) == ["out/seed1/best.pt"]
    each = {f"{optimizer}/seed{seed}/best.pt": (10, 30) for optimizer in ("adam", "sgd") for seed in (1, 2)}
    runs = [traced((seed, each), optimizer=name) for name in ("adam", "sgd") for seed in (1, 2)]
    assert shared([trace for its in runs for trace in its]) == ()


def test_runs_in_other_folders_do_not_meet() -> None:
    one, two = traced((1, {"best.pt": (10, 30)}), (2, {"best.pt": (10, 30)}))
    other = Trace(two.key, two.seed, two.words, two.ok, {**two.files, "below": "elsewhere"})
    assert shared([one, two])
    assert shared([one, other]) == ()


def test_what_a_run_wrote_is_seen_by_size_time_and_name(tmp_path: Path) -> None:
    (tmp_path / "kept.pt").write_text("1")
    (tmp_path / "again.pt").write_text("1")
    watch = Watch(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "best.pt").write_text("1")
    (tmp_path / "again.pt").write_text("22")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "best.pt").write_text("1")
    for ignored in (".git/index", "__pycache__/a.bin", "wandb/x.bin", "runs/a/record.bin", "mine.py", "plot.png"):
        (tmp_path / ignored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ignored).write_text("1")
    (tmp_path / "runs" / "a" / "sweep.json").write_text("{}")
    found = watch.evidence()
    assert list(found["written"]) == ["again.pt", ".cache/best.pt", "new/best.pt"]
    assert Watch(tmp_path).evidence() == {}


def test_a_file_that_was_removed_between_two_runs_is_not_shared(tmp_path: Path) -> None:
    seen = []
    for seed in (1, 2):
        watch = Watch(tmp_path)
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "best.pt").write_text(str(seed))
        seen.append((seed, watch.evidence()))
        (tmp_path / "checkpoints" / "best.pt").unlink()
        (tmp_path / "checkpoints").rmdir()
        time.sleep(0.02)  # a file system's clock ticks every 4 to 10 ms
    traces = [Trace(f"seed{seed}", seed, frozenset(), True, found) for seed, found in seen]
    assert names(shared(traces)) == []
    assert len(shared(traces)) == 1


def test_what_is_beyond_the_limit_is_named_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for n in range(MOST // 2):
        (tmp_path / "data" / f"{n}.bin").touch()
    watch = Watch(tmp_path)
    (tmp_path / "data" / "0.bin").write_text("1")
    (tmp_path / "best.pt").write_text("1")
    found = watch.evidence()
    assert found["unwatched"] == "data"
    assert list(found["written"]) == ["best.pt"]


def test_the_output_of_the_launch_itself_is_apart(tmp_path: Path) -> None:
    asked = "from pathlib import Path; from sweep.shared_files import outputs; print(outputs(Path()))"
    with (tmp_path / "said.csv").open("w") as said:
        told = subprocess.run(
            [sys.executable, "-c", asked], cwd=tmp_path, stdout=subprocess.PIPE, stderr=said, text=True, check=True
        )
    assert os.fspath(tmp_path / "said.csv") in told.stdout
    assert outputs(tmp_path) == frozenset()


def asked(folder: Path, *words: str) -> list[str]:
    (folder / "train.py").write_text(PROGRAM)
    return [*words, "--out", "out", "--json", "--", sys.executable, "train.py", "{seed}"]


def command(folder: Path, words: list[str], *, program: str = "sweep") -> subprocess.Popen[str]:
    meet = folder.parent / f"{folder.name}-meet"
    meet.mkdir(exist_ok=True)
    code = f"import sys; from sweep.cli import {program}; sys.exit({program}())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=folder, env={**os.environ, "MEET": os.fspath(meet)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.ray
def test_seeds_that_load_each_others_checkpoint_are_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = command(folder, [*asked(folder, "run", "--seeds", "1,2"), "1,2", "checkpoints/best.pt"])
    out, err = started.communicate(timeout=120)
    assert started.returncode == 1, err
    assert "checkpoints/best.pt" in err
    assert "{dir}" in err
    report = json.loads(out)
    assert report["shared"] == [{"path": "checkpoints/best.pt", "runs": ["seed1", "seed2"], "in_turn": False}]
    assert "checkpoints/best.pt" in report["warnings"][0]
    assert "n = 2, 0 failed, 2 shared a file" in report["rows"][0]["headline"]
    records = [m.record for m in Store.open("out").scan()]
    assert all(record and "checkpoints/best.pt" in record.files["written"] for record in records)
    allowed = asked(folder, "run", "--engine", "inline", "--seeds", "1,2", "--allow-shared")
    assert main([*allowed, "1,2", "checkpoints/best.pt"]) == 0


@pytest.mark.parametrize("own", [True, False])
def test_commands_beside_each_other_are_looked_at_alike(
    folder: Path, own: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = "checkpoints/{seed}.pt" if own else "checkpoints/best.pt"
    both = [command(folder, [*asked(folder, "--seed", seed), "1,2", kept], program="ml_train") for seed in ("1", "2")]
    codes = [each.wait(120) for each in both if each.communicate(timeout=120)]
    assert max(codes) == (0 if own else 1)
    assert main(["report", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["shared"]
    assert [each["path"] for each in found] == ([] if own else ["checkpoints/best.pt"])


@pytest.mark.usefixtures("at_leisure")
def test_seeds_one_after_another_are_not_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = asked(folder, "run", "--engine", "inline", "--seeds", "1,2")
    assert main([*words, "{seed}", "checkpoints/best.pt"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["shared"] == [{"path": "checkpoints/best.pt", "runs": ["seed1", "seed2"], "in_turn": True}]
    assert not any("checkpoints" in each for each in report["warnings"])
    assert any("checkpoints/best.pt" in each for each in report["notes"])


@pytest.mark.usefixtures("at_leisure")
def test_a_function_that_writes_below_the_working_folder_is_watched(folder: Path) -> None:
    (folder / "mine_w.py").write_text(
        "def train(run):\n    open('best.bin', 'a').write('x')\n    return {'test/x': run.seed}\n"
    )
    results = run({"train": "mine_w:train"}, seeds=[1, 2], out="out", engine="inline")
    assert [(each.path, each.in_turn) for each in results.report.shared] == [("best.bin", True)]


def test_the_first_run_of_each_sweep_is_looked_at_however_long_looking_took_in_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine_s.py").write_text(
        "def train(run):\n    open('best.bin', 'a').write('x')\n    return {'test/x': run.seed}\n"
    )
    monkeypatch.setattr("sweep.shared_files.FREE", 0.0)
    monkeypatch.setattr("sweep.shared_files.SHARE", 1e-9)
    for out in ("first", "second"):
        results = run({"train": "mine_s:train"}, seeds=[1, 2], out=out, engine="inline")
        looked = ["written" in member.record.files for member in results.store.scan() if member.record]
        assert looked == [True, False]


@pytest.mark.parametrize(("looking", "seconds"), [(0.026, 1.0), (0.026, 0.1), (0.2, 3.0), (0.005, 0.5), (0.026, 60.0)])
def test_looking_takes_at_most_its_share_of_the_time_of_runs(looking: float, seconds: float) -> None:
    of, looked = Share(), 0
    assert of.due()  # the first run of a process always is looked at
    of.took(looking, seconds)
    for _ in range(1000):
        if of.due():
            looked += 1
            of.took(looking, seconds)
    assert looked >= 1000 // FEWEST
    assert looked * looking <= SHARE * 1000 * seconds or looked == 1000 // FEWEST
    assert seconds < 60 or looked == 1000


def test_a_few_files_are_looked_at_beside_every_run_however_short() -> None:
    of = Share()
    for _ in range(10):
        assert of.due()
        of.took(0.001, 0.01)


def test_runs_that_are_left_out_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweep.shared_files.FREE", 0.0)
    monkeypatch.setattr("sweep.shared_files.SHARE", 1e-9)
    words = asked(folder, "run", "--engine", "inline", "--seeds", "1-3")
    assert main([*words, "{seed}", "checkpoints/best.pt"]) == 0
    assert capsys.readouterr().err.count("not all of them are watched") == 1
    found = [m.record.files for m in Store.open("out").scan() if m.record]
    assert [("written" in files, "left_out" in files) for files in found] == [
        (True, False),
        (False, True),
        (False, True),
    ]
