"""Whatever becomes of stdout and stderr, a command goes on, without a traceback, to the exit code of what happened."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finished import accuracies, of_every_kind, sweep_of

from sweep.cli.app import COMMANDS, main

SWEEP = [sys.executable, "-c", "from sweep.cli import sweep; sweep()"]
PROGRAM = "import os, sys\nprint({'acc': 0.5})\nsys.exit(os.environ['SWEEP_SEED'] == '2')\n"
UNLIKE = "import os\n\ndef unlike(run):\n    return {'acc': int.from_bytes(os.urandom(4), 'big')}\n"

# Words and an exit code: every command, and every exit code that a script may decide by.
CASES = [
    ("init first", 0),
    ("run --engine inline --seeds 1-2 --out program -- python program.py", 1),
    ("run --dry-run", 0),
    ("status many", 0),
    ("watch many", 0),
    ("report many", 0),
    ("report many --json", 0),
    ("report many --html page.html", 0),
    ("collect many", 2),
    ("compare better worse", 0),
    ("compare better worse --require 'test/accuracy >= base'", 1),
    ("compare better better2 --require 'test/accuracy >= base'", 4),
    ("ensemble many --allow-missing", 0),
    ("ensemble broken", 3),
    ("predict many in.npy --out out.npy", 2),
    ("verify many", 2),
    pytest.param("verify unlike.yaml --deterministic", 3, marks=pytest.mark.slow),
    ("reproduce many", 2),
    ("export many --to csv", 0),
    ("resume many", 2),
    ("config lanes", 0),
    ("adopt table.csv --seed seed --out old", 0),
    ("items many", 2),
    ("examples many --allow-missing", 0),
    ("pack many --out many.zip", 0),
    ("completion bash", 0),
    ("ml-train --seed 2 -- python program.py", 1),
    ("--help", 0),
]
STREAMS = {
    "closed and full": ">&- 2>/dev/full",
    "full and closed": ">/dev/full 2>&- <&-",
    "nobody reads": "",  # a pipe that is closed at its other end before anything is written
}


def _values(case: Any) -> tuple[Any, ...]:
    return getattr(case, "values", case)


def _in_turn(number: int, case: Any) -> Any:
    """Return a case with the streams that it gets: commands take turns."""
    values = (*_values(case), list(STREAMS)[number % len(STREAMS)])
    return pytest.param(*values, id=f"{values[0]}-{values[2]}", marks=getattr(case, "marks", ()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    sweep_of(path / "many", of_every_kind, seeds=range(6))
    broken = sweep_of(path / "broken", of_every_kind, seeds=range(3))
    damaged = next(broken.path.rglob("predictions-test.npz"))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    for name, mean in (("better", 0.9), ("worse", 0.5), ("better2", 0.8999)):
        values = {seed: mean + 0.001 * ((seed * 7 + len(name)) % 5) for seed in range(6)}
        sweep_of(path / name, accuracies(values), seeds=range(6), name=name)
    (path / "program.py").write_text(PROGRAM)
    (path / "table.csv").write_text("seed,acc\n1,0.5\n2,0.6\n")
    (path / "unlike.py").write_text(UNLIKE)
    (path / "unlike.yaml").write_text("name: unlike\ntrain: unlike:unlike\n")
    return path


def test_every_command_is_among_the_cases() -> None:
    assert {case[0].split()[0] for case in map(_values, CASES)} >= {*COMMANDS, "ml-train"}


@pytest.mark.parametrize(("words", "code"), CASES)
def test_a_command_ends_in_its_own_exit_code(
    words: str, code: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(place, tmp_path / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(shlex.split(words), program="ml-train" if words.startswith("ml-train") else "sweep") == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out or code in (2, 3) or "--html" in words


@pytest.mark.parametrize(("words", "code", "unlike"), [_in_turn(*each) for each in enumerate(CASES)])
def test_streams_that_take_nothing_change_no_exit_code(
    words: str, code: int, unlike: str, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "place")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {STREAMS[unlike]}', "bash", *SWEEP, *shlex.split(words)], stdout=writer,
        stderr=writer, cwd=tmp_path / "place", env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=240,
    )  # fmt: skip
    os.close(writer)
    # 1 where a full disk took not all of an answer
    assert done.returncode in ({code, code or 1} if unlike == "full and closed" else {code})


def test_a_terminal_that_knows_only_ascii_gets_plain_signs(place: Path) -> None:
    words = [*SWEEP, "report", "many"]
    done = subprocess.run(words, cwd=place, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"+-" in done.stdout
    assert done.stdout.isascii()


def test_a_full_disk_for_stdout_is_reported(place: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" >/dev/full', "bash", *SWEEP, "status", "many"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "incomplete: No space left on device" in done.stderr


@pytest.mark.parametrize(("words", "code"), [("report nothing", 2), ("ensemble broken", 3), ("report --no-such", 2)])
def test_debug_shows_where_and_keeps_the_exit_code(
    words: str, code: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main([*words.split(), "--debug"]) == code
    assert ("Traceback" in capsys.readouterr().err) == ("--no-such" not in words)


def test_words_of_a_command_that_are_no_utf8_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    word = os.fsdecode(b"caf\xe9.txt")
    assert main(["run", "--engine", "inline", "--seeds", "1", "--", "cat", "{seed}", word]) == 2
    assert "caf\\udce9.txt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_directory_whose_name_is_no_utf8_is_named_as_a_shell_takes_it(place: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    shutil.copytree(place / "many", tmp_path / name)
    done = subprocess.run([*SWEEP, "status", name], cwd=tmp_path, capture_output=True, text=True, check=True)
    following = done.stdout.partition("sweep resume ")[2].split()[0]
    assert subprocess.run(["bash", "-c", f"cd {following}"], cwd=tmp_path).returncode == 0
