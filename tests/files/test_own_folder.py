"""--cwd {dir}: each run works in a folder of its own, where the files of the launch folder are found."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sweep.cli.app import main
from sweep.config import load
from sweep.errors import ConfigError, StoreError
from sweep.prepare import manifest_of, prepare
from sweep.results import run
from sweep.store import Store
from sweep.worker import own_folder
from sweep.worker.own_folder import lent

PROGRAM = """
import json, pathlib, sys
from helper import BASE
kept = pathlib.Path("checkpoints/best.json")
assert json.loads(kept.read_text()) == "of the launch folder"
kept.write_text(json.dumps(int(sys.argv[1])))
pathlib.Path("made").mkdir()
pathlib.Path("made", "note.txt").write_text(pathlib.Path("data", "large.bin").read_text()[:5])
pathlib.Path("metrics.json").write_text(json.dumps({"test/accuracy": BASE + json.loads(kept.read_text())}))
"""
WORDS = ["--", "python", "program.py", "{seed}"]


@pytest.fixture
def launch(folder: Path) -> Path:
    files = {
        "program.py": PROGRAM, "helper.py": "BASE = 10\n", "checkpoints/best.json": '"of the launch folder"',
        "data/large.bin": "large" * 100, "metrics.json": '{"test/accuracy": 99}', ".hidden/x": "", ".git/HEAD": "",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def files_in(top: Path) -> dict[str, str]:
    return {
        os.path.relpath(p, top): p.read_text() for p in sorted(top.rglob("*")) if p.is_file() and "out" not in p.parts
    }


def swept(*words: str) -> int:
    return main(["run", "--engine", "inline", "--seeds", "1,2", "--out", "out", "--json", *words, *WORDS])


def test_what_a_run_writes_is_its_own_and_what_it_reads_is_there(
    launch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(launch)
    assert swept("--cwd", "{dir}") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shared"] == []
    assert files_in(launch) == before
    members = list(Store.open("out").scan())
    assert [m.record.metrics for m in members if m.record] == [{"test/accuracy": 11.0}, {"test/accuracy": 12.0}]
    (own,) = (m.folder for m in members[:1])
    assert own
    made = {str(p.relative_to(own)) for p in own.rglob("*") if p.is_file()}
    assert {"metrics.json", "made/note.txt", "checkpoints/best.json"} <= made
    assert not made & {"program.py", "helper.py", "data/large.bin"}
    assert swept("--cwd", "{dir}") == 0  # the same experiment


def test_without_it_the_file_is_shared(launch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert swept() == 1  # the second seed does not find what it expects
    assert (launch / "made").exists()


def test_it_is_part_of_what_is_compared(launch: Path) -> None:
    Store.create("out", manifest_of(prepare(load(None, command=WORDS[1:], seeds="1"))))
    with pytest.raises(StoreError, match="cwd"):
        Store.check(Path("out"), manifest_of(prepare(load(None, ["cwd={dir}"], command=WORDS[1:], seeds="1"))))


@pytest.mark.usefixtures("at_leisure")
def test_a_write_through_a_link_is_seen(
    launch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_folder, "COPIED", 400)
    (launch / "program.py").write_text(
        "import json\nopen('data/large.bin', 'a').write('x')\nprint(json.dumps({'test/accuracy': 0.5}))\n"
    )
    assert swept("--cwd", "{dir}") == 0
    assert [each["path"] for each in json.loads(capsys.readouterr().out)["shared"]] == ["data/large.bin"]


def test_a_function_works_in_a_folder_of_its_own(launch: Path) -> None:
    (launch / "mine_own.py").write_text(
        "import json\ndef train(run):\n    base = json.load(open('metrics.json'))['test/accuracy']\n"
        "    open('best.bin', 'a').write('x')\n"
        "    return {'test/x': base + len(open('best.bin').read())}\n"
    )
    here = os.getcwd()
    results = run({"train": "mine_own:train", "cwd": "{dir}"}, seeds=[1, 2], out="out", engine="inline")
    assert results.frame["test/x"].tolist() == [100.0, 100.0]
    assert results.report.shared == ()
    assert not (launch / "best.bin").exists()
    assert os.getcwd() == here
    assert all((m.folder / "cwd" / "best.bin").read_text() == "x" for m in Store.open("out").scan() if m.folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cwd": "work"}, "one folder for all"),
        ({"cwd": "{dir}"}, "recipe"),
        ({"cwd": "{dir}", "command": ["python", "program.py", "--data=../d.csv", "{seed}"]}, "leads out"),
    ],
)
def test_what_would_not_do_what_it_says_is_refused(launch: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(load(None, seeds="1", **settings))


def test_a_link_that_a_run_put_in_the_place_of_a_folder_is_its_own(launch: Path) -> None:
    own, elsewhere = launch / "own", launch / "elsewhere"
    for folder in (own, elsewhere):
        folder.mkdir()
        (folder / "sweep.json").touch()  # as a run directory: not shown
    (elsewhere / "empty").mkdir()
    with lent(launch, own):
        shutil.rmtree(own / "checkpoints")
        (own / "checkpoints").symlink_to(elsewhere / "empty")
    assert (own / "checkpoints").is_symlink()


def test_large_folders_are_links_and_what_a_killed_run_left_is_taken_away_by_the_next(
    launch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = launch / "own"
    own.mkdir()
    (own / "sweep.json").touch()  # as a run directory: not shown within itself
    monkeypatch.setattr(own_folder, "LARGEST", 3)
    for n in range(5):
        (launch / "data" / f"{n}.csv").write_text(str(n))
    killed = lent(launch, own)
    killed.__enter__()
    assert (own / "data").is_symlink()
    assert (own / "checkpoints").is_dir()
    assert not (own / "checkpoints").is_symlink()
    assert not (own / ".git").exists()
    with lent(launch, own):
        (own / "metrics.json").write_text("mine")
    assert files_in(own) == {"metrics.json": "mine", "sweep.json": ""}
