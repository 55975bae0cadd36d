"""`sweep run` and `ml-train`: exit codes, what goes where, and what is refused before anything starts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toys
from processes import gone

import sweep
from sweep.cli.app import main
from sweep.cli.progress import Screen
from sweep.store import Store, atomic

pytestmark = pytest.mark.usefixtures("unforked")

LINE = "name: line\ntrain: toys:line\n"
DIGITS = """\
name: tiny
recipe: sweep.train.recipes:classifier
params: {data: {name: digits, limit: 120}, model: {hidden: [8]}, epochs: 1}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("line.yaml").write_text(LINE)


def run(*arguments: str) -> int:
    return main(["run", "line.yaml", "--engine", "inline", *arguments])


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr("sweep.launch.start.make_engine", started)


# What --help says.


@pytest.mark.parametrize("arguments", [[], ["run"], ["status"], ["report"], ["ml-train"]], ids=lambda a: a or "sweep")
def test_help_is_as_agreed(
    arguments: list[str], snapshot: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    program = "ml-train" if arguments == ["ml-train"] else "sweep"
    assert main([*arguments, "--help"], program=program) == 0
    snapshot(f"cli/help-{'-'.join(arguments) or 'sweep'}.txt", capsys.readouterr().out)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert sweep.__version__ in capsys.readouterr().out


# Exit codes, and stdout for data only.


def test_done_is_zero_and_again_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "1,2") == 0
    out, err = capsys.readouterr()
    assert "2 planned = 2 ok + 0 failed + 0 lost + 0 pending" in out
    assert "seed1" in err
    assert run("--seeds", "1,2") == 0
    assert "nothing to train: all 2 runs are in runs/line" in capsys.readouterr().err
    assert run("--seeds", "1-3") == 0
    assert "2 of 3 runs are here already; 1 to train" in capsys.readouterr().err


def test_a_failed_seed_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params.fail=2", "--seeds", "1,2,3") == 1
    out, err = capsys.readouterr()
    assert "3 planned = 2 ok + 1 failed + 0 lost + 0 pending" in out
    assert "seed 2 is unlucky" in err
    assert main(["report", "runs/line"]) == 0  # reading was answered


def test_fail_fast_starts_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params.fail=2", "--seeds", "1,2,3", "--fail-fast") == 1
    assert "3 planned = 1 ok + 1 failed + 0 lost + 1 pending" in capsys.readouterr().out
    assert run("params.fail=2", "--seeds", "1,2,3") == 1
    assert "2 ok + 1 failed" in capsys.readouterr().out


def test_json_is_all_that_stdout_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params.fail=2", "--seeds", "1,2,3", "--json") == 1
    first = atomic.loads(capsys.readouterr().out)
    assert run("params.fail=2", "--seeds", "1,2,3", "--json") == 1
    assert atomic.loads(capsys.readouterr().out) == first


def test_ml_train_trains_one_and_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ml-train", "line.yaml", "--seed", "7"], program="ml-train") == 0
    out = capsys.readouterr().out
    assert "seed 7 (fast, cpu, 1 thread): ok" in out
    assert "next: sweep report runs/line" in out
    assert main(["ml-train", "line.yaml", "params.fail=7", "--seed", "7", "--out", "b"], program="ml-train") == 1
    assert "its log:" in capsys.readouterr().out


def test_ml_train_has_short_forms() -> None:
    Path("tiny.yaml").write_text(DIGITS)
    short = ["--lr", "0.01", "--batch_size", "16", "--num_epochs", "2"]
    assert main(["ml-train", "tiny.yaml", *short], program="ml-train") == 0
    (member,) = sweep.open("runs/tiny").store.scan()
    assert member.record is not None
    params = member.record.spec["params"]
    assert (params["optimizer"]["lr"], params["batch_size"], params["epochs"]) == (0.01, 16, 2)
    assert member.seed == 42
    assert not member.record.spec["deterministic"]


# Nothing started, nothing written.


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_dry_run_shows_the_plan_and_does_nothing(form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = os.listdir()
    assert run("--seeds", "1,2", "params.lr=0.1,0.2", "--dry-run", *form) == 0
    out = capsys.readouterr().out
    if form:
        shown = atomic.loads(out)
        assert (shown["planned"], len(shown["runs"])) == (4, 4)
        assert shown["config"]["seeds"] == [1, 2]
    else:
        assert "4 runs in runs/line on cpu, 1 thread each" in out
        assert out.count("/seed1") == 2
    assert os.listdir() == before


CONFIGS: dict[str, bytes] = {
    "empty.yaml": b"",
    "list.yaml": b"- 1\n- 2\n",
    "latin.yaml": "name: né\n".encode("latin-1"),
    "tag.yaml": b"name: !!python/object/apply:os.system ['touch ran']\n",
    "secret.yaml": b"name: line\ntrain: toys:line\nparams: {lr: '${oc.env:HOME}'}\n",
    "unknown.yaml": b"name: line\ntrain: toys:line\nsedes: [1]\n",
    "types.yaml": b"name: line\ntrain: toys:line\nseeds: lots\nthreads: many\nepochs: 3\n",
}
WRONG: dict[str, list[str]] = {
    "a negative seed": ["run", "line.yaml", "--seeds", "-1"],
    "a seed too large": ["run", "line.yaml", "--seeds", "4294967296"],
    "a fractional seed": ["run", "line.yaml", "--seeds", "1.5"],
    "a duplicated seed": ["run", "line.yaml", "--seeds", "1,2,1"],
    "no seed": ["run", "line.yaml", "--seeds", ""],
    "digits of another script": ["run", "line.yaml", "--seeds", "٤٢"],
    "an octal look": ["run", "line.yaml", "--seeds", "010"],
    "a seed for ml-train that is several": ["ml-train", "line.yaml", "--seed", "1,2"],
    "a range for ml-train": ["ml-train", "line.yaml", "--seed", "0-9"],
    "an unknown key": ["run", "unknown.yaml"],
    "an unknown override": ["run", "line.yaml", "sedes=1"],
    "several wrong types": ["run", "types.yaml"],
    "a missing module": ["run", "line.yaml", "train=nowhere_at_all:f"],
    "a missing function": ["run", "line.yaml", "train=toys:lime"],
    "an unknown parameter": ["run", "line.yaml", "params.lrr=0.1"],
    "a parameter of the wrong type": ["run", "line.yaml", "params.epochs=many"],
    "an output that is a file": ["run", "line.yaml", "--out", "line.yaml"],
    "an output below a file": ["run", "line.yaml", "--out", "line.yaml/below"],
    "an empty config": ["run", "empty.yaml"],
    "a list for a config": ["run", "list.yaml"],
    "a config in another encoding": ["run", "latin.yaml"],
    "a Python object": ["run", "tag.yaml"],
    "an interpolation": ["run", "secret.yaml"],
    "an interpolation on the command line": ["run", "line.yaml", "params.lr=${oc.env:HOME}"],
    "a missing config": ["run", "nowhere.yaml"],
    "no KEY=VALUE": ["run", "line.yaml", "lr"],
    "an unknown option": ["run", "line.yaml", "--sedes", "1"],
    "an unknown engine": ["run", "line.yaml", "--engine", "slurm"],
    "no jobs": ["run", "line.yaml", "--jobs", "0"],
    "an unknown command": ["rum", "line.yaml"],
    "nothing after --": ["run", "line.yaml", "--"],
    "a GPU that is not here": ["run", "line.yaml", "device=cuda"],
}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_two_with_a_clear_text_and_nothing_else(
    name: str, snapshot: Callable[[str, str], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "GPU" in name:
        monkeypatch.setattr("sweep.prepare.os.path.exists", lambda path: False)
    for file, content in CONFIGS.items():
        Path(file).write_bytes(content)
    before = sorted(os.listdir())
    arguments = WRONG[name]
    assert main(arguments, program="ml-train" if arguments[0] == "ml-train" else "sweep") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before
    # The hint of a missing module names this folder; what click says of usage is click's to change.
    if name != "a missing module" and not err.startswith("Usage"):
        snapshot(f"cli/error-{name.replace(' ', '-')}.txt", err)


def test_a_directory_of_another_experiment_stays_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--seeds", "1") == 0
    before = {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()}
    capsys.readouterr()

    def started(*_: object, **__: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr("sweep.launch.start.make_engine", started)
    assert run("--seeds", "1,2", "params.lr=0.5") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "params.lr: 0.1 -> 0.5" in err
    assert {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()} == before


def test_a_second_launch_in_a_directory_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seeds", "1") == 0
    with Store.lock(Path("runs/line")):
        assert run("--seeds", "1,2") == 2
        assert main(["ml-train", "line.yaml", "--seed", "3"], program="ml-train") == 2
    err = capsys.readouterr().err
    assert f"pid {os.getpid()} on" in err
    assert sweep.open("runs/line").store.manifest.seeds == (1,)


# The screen.


def test_progress_keeps_the_screen_while_a_run_has_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(sys.stderr, lambda: None)
    with contextlib.redirect_stderr(io.StringIO()) as log:
        screen.say("on the screen")
    assert log.getvalue() == ""
    assert "on the screen" in capsys.readouterr().err


def _restore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have started the tests with it ignored


def test_an_interrupt_stops_at_a_log_says_so_and_the_next_command_goes_on() -> None:
    tally = Path("tally")
    tally.mkdir()
    Path("patient.yaml").write_text(f"name: patient\ntrain: toys:patient\nparams: {{tally: '{tally.resolve()}'}}\n")
    words = ["run", "patient.yaml", "--engine", "inline", "--seeds", "1,2"]
    with subprocess.Popen(
        [sys.executable, "-c", "from sweep.cli import sweep; sweep()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_restore_interrupt,
        env={**os.environ, "PYTHONPATH": str(Path(toys.__file__).parent)},
    ) as process:  # fmt: skip
        give_up = time.monotonic() + 120
        while not (tally / "1").exists() and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "press Ctrl-C again to cancel at once" in err
    assert "stopped; 0 runs are complete, 1 had begun (1 will start over). To resume: " in err
    assert "Traceback" not in err
    assert os.listdir(tally) == ["1"]
    statuses = {m.key: m.status for m in Store.open("runs/patient").scan()}
    assert statuses == {"seed1": "stopped", "seed2": "pending"}
    assert not list(Path("runs/patient").glob("stop-*"))


def test_a_stopped_program_is_said_to_go_on_with_what_it_wrote_and_not_from_a_checkpoint_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on = "test -e go && echo '{\"acc\": 0.5}' && exit"
    program = f"{go_on}; touch {{dir}}/mine; echo $$ >part; mv part begun; sleep 600 # {{seed}}"
    words = ["run", "--engine", "inline", "--seeds", "1,2", "--out", "runs/program", "--", "sh", "-c", program]
    with subprocess.Popen(
        [sys.executable, "-c", "from sweep.cli import sweep; sweep()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_restore_interrupt,
    ) as process:  # fmt: skip
        give_up = time.monotonic() + 120
        while not Path("begun").exists() and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert "1 had begun (1 can resume)" in err
    assert "asked to end" in err
    main(["status", "runs/program"])
    said = capsys.readouterr().out
    assert "will resume from 1 file in its {dir}" in said
    assert "checkpoint" not in err + said
    assert gone(int(Path("begun").read_text()))
    Path("go").touch()
    assert main(words) == 0


def test_a_full_disk_is_told_in_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_write", full)
    assert run("--seeds", "1") == 2  # before anything is started
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_resolved_config_is_in_the_directory() -> None:
    assert run("--seeds", "1", "params.lr=0.3") == 0
    assert json.loads(Path("runs/line/sweep.json").read_text())["config"]["params"] == {
        "lr": 0.3, "epochs": 2, "fail": -1,
    }  # fmt: skip


def test_lanes_are_a_setting_like_the_others_and_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--lanes", "", "--dry-run"]) == 2
    assert "lanes (argument): must be auto" in capsys.readouterr().err
    assert main(["run", "--lanes", "16", "--dry-run"]) == 0
    assert "lanes: 16" in capsys.readouterr().out


def test_a_config_behind_its_overrides_is_told_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "params.epochs=1", "line.yaml"]) == 2
    assert "name the config first" in capsys.readouterr().err
