"""`sweep status` and `sweep report`: what they answer, and what they never load, run or write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from finished import of_every_kind, sweep_of

from sweep.cli.app import main
from sweep.store import Store, atomic

HEAVY = ("torch", "ray", "pandas", "matplotlib", "scipy", "pydantic", "sklearn")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sweep_of(tmp_path / "runs", of_every_kind, seeds=range(6))


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def loaded(*arguments: str, heavy: tuple[str, ...] = HEAVY) -> set[str]:
    """The heavy packages that a command has loaded by its end."""
    code = (
        "import atexit, sys\nimport sweep.cli\nsys.argv[0] = 'sweep'\n"
        f"show = lambda: print(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)\n"
        "sweep.cli.os._exit = lambda code: None\natexit.register(show)\nsweep.cli.sweep()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_and_asking_for_help_load_nothing_heavy() -> None:
    code = f"import sys, sweep\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == []
    assert loaded("--help") == set()
    assert loaded("--version", heavy=(*HEAVY, "numpy", "pydantic_core")) == set()


def test_status_loads_neither_torch_nor_ray_nor_pandas(store: Store) -> None:
    assert loaded("status", str(store.path)) & {"torch", "ray", "pandas", "scipy", "matplotlib", "pydantic"} == set()


def test_report_loads_neither_torch_nor_ray(store: Store) -> None:
    assert loaded("report", str(store.path)) & {"torch", "ray", "matplotlib", "pydantic"} == set()


def test_a_command_that_trains_is_seen_to_load_torch(store: Store) -> None:
    """The control of the three tests above."""
    code = "import sys, torch\nprint(*[m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch"]


def test_status_counts_every_planned_run_once(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(store.path)]) == 0
    out, err = capsys.readouterr()
    assert "6 planned = 3 ok + 1 failed + 1 lost + 1 pending" in out
    assert err == ""
    assert main(["status", str(store.path), "--json"]) == 0
    found = atomic.loads(capsys.readouterr().out)
    counts = found["counts"]
    assert counts["planned"] == sum(counts[k] for k in ("ok", "failed", "lost", "pending")) == 6
    assert {run["key"]: run["status"] for run in found["runs"]} == {
        "seed0": "ok", "seed1": "ok", "seed2": "ok", "seed3": "failed", "seed4": "lost", "seed5": "pending",
    }  # fmt: skip


def test_the_total_of_a_status_comes_last_before_the_next_command(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(store.path)]) == 0
    *_, last_run, total, next_ = capsys.readouterr().out.splitlines()
    assert last_run.split()[0] == "seed5"
    assert total.startswith("6 planned = ")
    assert next_.startswith("next: ")


def test_a_status_is_colored_on_a_terminal_alone(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", str(store.path)]) == 0
    assert "\x1b" not in (plain := capsys.readouterr().out)
    monkeypatch.setattr("sweep.report.document.wants_color", lambda _: True)
    assert main(["status", str(store.path)]) == 0
    colored = capsys.readouterr().out
    assert "\x1b[31mfailed" in colored
    assert "\x1b[32mok" in colored
    assert click.unstyle(colored) == plain


def test_what_was_stopped_is_not_called_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fates = [{"metrics": {"test/accuracy": 0.9}}, {"stopped": True}, {"lost": True}]
    store = sweep_of(tmp_path / "runs", lambda spec: fates[spec.seed], seeds=range(3))
    said = "3 planned = 1 ok + 0 failed + 1 lost + 1 pending (1 stopped)"
    assert main(["status", str(store.path)]) == 0
    out = capsys.readouterr().out
    assert said in out
    (stopped,) = [line for line in out.splitlines() if "seed1" in line]
    assert stopped.split()[:2] == ["seed1", "stopped"]
    assert stopped.endswith("will start over, because it saved nothing to resume from")
    assert "trains the runs that are lost or pending" in out
    assert main(["report", str(store.path)]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "1 × lost (seed 2): its process ended without a record" in out
    assert "seed1" not in out


def test_status_shows_a_launch_at_work(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.lock(store.path) as owner:
        assert main(["status", str(store.path)]) == 0
        assert f"pid {owner.pid}" in capsys.readouterr().out


@pytest.mark.parametrize("format_", ["text", "md", "latex", "json"])
def test_every_report_says_how_many_and_over_what(
    store: Store, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    assert main(["report", str(store.path), "--format", format_]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "test" in out
    assert "accuracy" in out
    if format_ == "json":
        atomic.loads(out)  # strict: NaN as text, no key twice
    else:
        assert "this split and test set" in out.replace("\n    ", " ").replace("\n  ", " ")


def test_reading_writes_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(store.path)
    for arguments in (["status"], ["status", "--json"], ["report"], ["report", "--format", "json"]):
        main([*arguments, str(store.path)])
    assert everything(store.path) == before


def test_a_directory_without_results_is_still_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = sweep_of(tmp_path / "runs", lambda spec: None, seeds=range(3))
    assert main(["status", str(store.path)]) == 0
    assert main(["report", str(store.path)]) == 0
    assert capsys.readouterr().out.count("3 planned = 0 ok + 0 failed + 0 lost + 3 pending") == 2


@pytest.mark.parametrize("command", ["status", "report"])
def test_what_is_no_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store: Store, command: str
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        assert main([command, str(path)]) == 2
    (store.path / "sweep.json").write_text(json.dumps({"format": 1}))
    assert main([command, str(store.path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(store: Store) -> None:
    command = f'"{sys.executable}" -m sweep.cli status "{store.path}" | head -c 10; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_status_ends_with_what_goes_on_where_it_was_left(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(store.path)]) == 0
    said = capsys.readouterr().out
    assert f"next: sweep resume {store.path}   # trains the runs that are lost or pending" in said


def test_status_of_what_is_done_ends_with_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = sweep_of(tmp_path / "done", lambda spec: {"metrics": {"test/accuracy": 0.9}})
    assert main(["status", str(done.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: sweep report {done.path}"


def test_after_one_seed_more_seeds_are_the_next_thing(tmp_path: Path) -> None:
    from sweep.report import build

    one = sweep_of(tmp_path / "one", lambda spec: {"metrics": {"test/accuracy": 0.9}}, seeds=[42])
    assert build(one).next == (f"sweep resume {one.path} --seeds 0-9",)


def test_a_page_takes_the_place_of_no_file_of_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = sweep_of(tmp_path / "many", of_every_kind, seeds=range(3))
    plan = (store.path / "sweep.json").read_bytes()
    assert main(["report", str(store.path), "--html", str(store.path / "sweep.json")]) == 2
    assert "--html" in capsys.readouterr().err
    assert (store.path / "sweep.json").read_bytes() == plan
    assert main(["report", str(store.path), "--html", str(store.path / "report.html")]) == 0
