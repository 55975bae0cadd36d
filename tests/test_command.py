"""Any program as a run: real processes, real files, each seed's outcome as a user would find it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.cli.app import main
from sweep.config import load
from sweep.determinism.environment import Answer, of_environments
from sweep.errors import ConfigError, StoreError, SweepError, TargetError
from sweep.launch import Finished
from sweep.results import Results, run
from sweep.store import Member, Record, Store
from sweep.store.record import origin_of
from sweep.target import command as argv
from sweep.worker.command import failure_of

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def script(text: str, name: str = "train.py") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def sweep_of(text: str, *words: str, seeds: Any = (1,), **config: Any) -> Results:
    """The script `text` run for the seeds, in this process's engine."""
    command = [PYTHON, "-S", script(text), *(words or ("{seed}",))]
    return run({"command": command, **config}, seeds=seeds, out="out", engine="inline")


def members(results: Results) -> list[Member]:
    return list(results.store.scan())


def record(results: Results) -> Record:
    (member,) = members(results)
    assert member.record is not None
    return member.record


def failure(results: Results) -> str:
    found = record(results).failure
    assert found is not None, record(results).metrics
    return str(found)


def folder(results: Results) -> Path:
    found = members(results)[0].folder
    assert found is not None
    return found


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_each_seed_reaches_the_program_and_its_last_line_of_json_is_the_result() -> None:
    results = sweep_of(
        'import sys, json; print("hello"); print(json.dumps({"test/accuracy": int(sys.argv[1]) / 100}))',
        seeds=(42, 7),
    )
    values = {m.seed: m.record.metrics for m in members(results) if m.record}
    assert values == {42: {"test/accuracy": 0.42}, 7: {"test/accuracy": 0.07}}
    assert dict(record_of(results, 42).result) == {"rule": "last reported", "epoch": None}


def record_of(results: Results, seed: int) -> Record:
    (found,) = [m.record for m in members(results) if m.seed == seed]
    assert found is not None
    return found


def test_every_placeholder_is_replaced_and_all_other_braces_are_left() -> None:
    text = (
        "import sys, json, os\n"
        'open(os.path.join(sys.argv[2], "seen.json"), "w").write(json.dumps(sys.argv[1:]))\n'
        'print(json.dumps({"a": 1}))'
    )
    words = ["s={seed}", "{dir}", "{device}", "{run_id}", "{params.lr}", "{other}", "{}", "{{seed}}", "$HOME", "a b;c"]
    results = sweep_of(text, *words, params={"lr": 0.1}, device="cpu")
    seen = json.loads((folder(results) / "seen.json").read_text())
    there = os.fspath((members(results)[0].path / "dir").resolve())
    assert seen == [
        "s=1", there, "cpu", record(results).spec_id[:16], "0.1", "{other}", "{}", "{1}", "$HOME", "a b;c",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["./train.sh"], ["sh", "train.sh"], ["env", "A=1", "bash", "-e", "train.sh"]])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_script_with_windows_line_ends_is_refused_before_the_start(end: str, words: list[str]) -> None:
    text = end.join(["#!/bin/sh", "echo '{\"a\": 1}'", ""])
    Path("train.sh").write_bytes(text.encode())
    os.chmod("train.sh", 0o755)
    config = {"command": [*words, "{seed}"]}
    if end == "\n":  # the control
        assert record(run(config, seeds=[1], out="out", engine="inline")).status == "ok"
        return
    with pytest.raises(TargetError, match=r"train\.sh"):
        run(config, seeds=[1], out="out", engine="inline")


def test_a_script_with_windows_line_ends_is_refused_behind_a_program_that_is_a_parameter() -> None:
    Path("train.sh").write_bytes(b"echo 1\r\n")
    config = {"command": ["{params.launcher}", "sh", "train.sh", "{seed}"], "params": {"launcher": "env"}}
    with pytest.raises(TargetError, match=r"train\.sh"):
        run(config, seeds=[1], out="out", engine="inline")


def test_a_value_that_looks_like_a_placeholder_is_not_replaced_again() -> None:
    assert argv.fill("{dir}/{seed}", {"dir": "/{seed}", "seed": "3"}) == "/{seed}/3"


def test_stdout_and_stderr_are_kept_in_the_log() -> None:
    results = sweep_of('import sys; print("one"); print("zwei ✓", file=sys.stderr); print(\'{"a": 1}\')')
    log = (folder(results) / "log.txt").read_text(encoding="utf-8")
    assert "train.py" in log.splitlines()[0]
    assert "one\n" in log
    assert "zwei ✓\n" in log


class TestMetrics:
    def test_a_metrics_file_in_the_runs_folder_goes_before_stdout(self) -> None:
        text = (
            'import sys; open(sys.argv[2] + "/metrics.json", "w").write(\'{"test": {"f1": 0.5}}\'); print(\'{"a": 1}\')'
        )
        assert record(sweep_of(text, "{seed}", "{dir}")).metrics == {"test/f1": 0.5}

    def test_json_lines_count_by_their_last_value_never_by_their_best(self) -> None:
        text = """
import json, sys
with open(sys.argv[2] + "/log.jsonl", "w") as out:
    for epoch, acc in enumerate([0.5, 0.99, 0.7], 1):
        out.write(json.dumps({"epoch": epoch, "acc": acc}) + "\\n")
"""
        results = sweep_of(text, "{seed}", "{dir}", collect={"json": "log.jsonl", "names": {"acc": "test/accuracy"}})
        assert record(results).metrics == {"test/accuracy": 0.7}
        history = results.store.history(members(results)[0])
        assert history == [{"step": s, "test/accuracy": v} for s, v in ((1, 0.5), (2, 0.99), (3, 0.7))]

    def test_the_last_row_of_a_csv(self) -> None:
        text = (
            'import sys; open(sys.argv[2] + "/r.csv", "w").write("step,loss,acc,who\\n1,2.0,0.9,me\\n2,1.5,0.8,me\\n")'
        )
        results = sweep_of(text, "{seed}", "{dir}", collect={"csv": "r.csv"})
        assert record(results).metrics == {"loss": 1.5, "acc": 0.8}
        assert [row["step"] for row in results.store.history(members(results)[0])] == [1, 2]

    def test_a_named_column_that_ends_early_is_said_aloud(self) -> None:
        text = 'import sys; open(sys.argv[2] + "/r.csv", "w").write("loss,acc\\n2.0,\\n1.9,0.9\\n1.5,\\n")'
        results = sweep_of(text, "{seed}", "{dir}", collect={"csv": "r.csv", "names": {"acc": "acc", "loss": "loss"}})
        assert record(results).metrics == {"acc": 0.9, "loss": 1.5}
        assert any("the last value of acc is 1 row before the end" in note for note in record(results).notes)

    def test_named_groups_of_a_regular_expression(self) -> None:
        text = 'for e in range(3): print(f"Epoch {e}: acc = {90 + e}.5% loss = -{e}e-1")'
        pattern = r"^Epoch (?P<epoch>\d+): acc = (?P<acc>[0-9.]+)% loss = (?P<loss>\S+)$"
        results = sweep_of(text, collect={"regex": pattern})
        assert record(results).metrics == {"acc": 92.5, "loss": -0.2}
        assert results.store.history(members(results)[0])[1] == {"step": 1, "acc": 91.5, "loss": -0.1}

    def test_a_step_printed_on_a_line_before_holds_for_what_follows(self) -> None:
        text = 'for e in (1, 2): print(f"epoch {e}"); print(f"loss {e / 4}")'
        results = sweep_of(text, collect={"regex": r"epoch (?P<epoch>\d+)|loss (?P<loss>\S+)"})
        assert results.store.history(members(results)[0]) == [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.5}]

    def test_tensorboard_files_as_torch_writes_them(self) -> None:
        event_files("written", "test/accuracy")
        text = 'import shutil, sys; shutil.copytree("written", sys.argv[2] + "/tb")'
        results = sweep_of(text, "{seed}", "{dir}", collect={"tensorboard": "tb"})
        assert record(results).metrics == {"test/accuracy": 0.5}
        assert [row["step"] for row in results.store.history(members(results)[0])] == [1, 2, 3, 4]

    def test_a_metric_that_is_not_finite_is_a_divergence(self) -> None:
        results = sweep_of('print(\'{"loss": NaN, "acc": 0.5}\')')
        assert failure(results).startswith("diverged: loss is nan")
        assert record(results).metrics["acc"] == 0.5

    @pytest.mark.parametrize(
        ("text", "collect", "said"),
        [
            ("print('done')", None, "gave no metrics"),
            ("print('done')", {"regex": "acc=(?P<acc>.*)"}, "its last line was 'done'"),
            ("print('acc=high')", {"regex": "acc=(?P<acc>.*)"}, "matched 'high', not a number"),
            ("print('{\"a\": 1}')", {"json": "m.json"}, "did not write m.json"),
            ("print('acc=1')", {"regex": "acc=(?P<acc>.*)", "names": {"top1": "test/accuracy"}}, "no 'top1'"),
        ],
    )
    def test_metrics_that_are_not_there_fail_the_run_and_say_what_was(self, text: str, collect: Any, said: str) -> None:
        assert said in failure(sweep_of(text, **({"collect": collect} if collect else {})))

    def test_a_file_that_all_seeds_write_is_refused_and_one_of_their_own_is_read(self) -> None:
        text = 'import sys, json; open(sys.argv[2], "w").write(json.dumps({"a": int(sys.argv[1])}))'
        shared = sweep_of(text, "{seed}", "shared.json", seeds=(1, 2), collect={"json": "shared.json"})
        assert "every seed writes the one in" in str(members(shared)[0].record)
        own = run(
            {"command": [PYTHON, "train.py", "{seed}", "r{seed}.json"], "collect": {"json": "r{seed}.json"}},
            seeds=[1, 2], out="own", engine="inline",
        )  # fmt: skip
        assert [m.record.metrics for m in members(own) if m.record] == [{"a": 1.0}, {"a": 2.0}]

    def test_a_file_left_by_an_earlier_run_is_not_taken_for_this_ones(self) -> None:
        Path("r1.json").write_text('{"a": 1}')
        assert "was there before this run" in failure(sweep_of("pass", collect={"json": "r{seed}.json"}))


def event_files(folder: str, tag: str) -> None:
    """Four steps of a metric, 0.125 to 0.5, as torch writes them."""
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step in range(1, 5):
            writer.add_scalar(tag, step / 8, step)


class TestAtWork:
    """What others see of a program before it has ended."""

    TEXT = """
import sys, time
from pathlib import Path
way, folder = sys.argv[2:]
row = {"regex": "epoch %d acc 0.%d5\\n", "csv": "%d,0.%d5\\n"}.get(way, '{"epoch": %d, "acc": 0.%d5}\\n')
rows = [row % (epoch, epoch) for epoch in (1, 2, 3)]
out = open(folder + "/log." + way, "w") if way in ("csv", "json") else sys.stdout
out.write("epoch,acc\\n" * (way == "csv") + rows[0][:-2])
for epoch, following in enumerate([*rows[1:], "  "], 1):
    out.write(rows[epoch - 1][-2:] + following[:-2])  # half of the next is there, too
    out.flush()
    while not Path(f"go{epoch}").exists():
        time.sleep(0.01)
"""

    @pytest.mark.parametrize("way", ["stdout", "regex", "csv", "json"])
    def test_its_steps_are_seen_as_they_come(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sweep.worker.command.LOOK", 0.02)
        collect: dict[str, Any] = {
            "stdout": {}, "regex": {"collect": {"regex": r"epoch (?P<epoch>\d+) acc (?P<acc>[0-9.]+)"}},
        }.get(way, {"collect": {way: f"log.{way}"}})  # fmt: skip
        rows = [{"step": epoch, "acc": epoch / 10 + 0.05} for epoch in (1, 2, 3)]
        with seen_at_each_step(3) as seen:
            results = sweep_of(self.TEXT, "{seed}", way, "{dir}", **collect)
        assert seen == [pytest.approx(row) for row in rows]
        assert record(results).metrics == pytest.approx({"acc": 0.35})
        assert results.store.history(members(results)[0]) == [pytest.approx(row) for row in rows]

    def test_a_step_that_was_seen_by_halves_is_whole_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sweep.worker.command.LOOK", 0.02)
        text = """
import time
from pathlib import Path
print('{"epoch": 1, "loss": 0.5}', flush=True)
while not Path("go1").exists():
    time.sleep(0.01)
print('{"epoch": 1, "acc": 0.75}')
"""
        with seen_at_each_step(1) as seen:
            results = sweep_of(text)
        assert seen == [{"step": 1, "loss": 0.5}]
        assert results.store.history(members(results)[0]) == [{"step": 1, "loss": 0.5, "acc": 0.75}]

    def test_event_files_that_are_cut_are_looked_at_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        event_files("written", "acc")
        monkeypatch.setattr("sweep.worker.command.LOOK", 0.02)
        text = """
import pathlib, sys, time
(source,) = pathlib.Path("written").iterdir()
data, out = source.read_bytes(), open(sys.argv[2] + "/" + source.name, "wb")
for start in range(0, len(data), 37):
    out.write(data[start : start + 37])
    out.flush()
    time.sleep(0.05)
"""
        results = sweep_of(text, "{seed}", "{dir}", collect={"tensorboard": "."})
        assert record(results).metrics == {"acc": 0.5}
        assert [row["step"] for row in results.store.history(members(results)[0])] == [1, 2, 3, 4]

    def test_the_curve_of_a_program_that_fails_is_kept(self) -> None:
        results = sweep_of('for e in (1, 2): print(f\'{{"epoch": {e}, "loss": {e / 4}}}\')\nraise SystemExit(3)')
        assert failure(results).startswith("raised: exit code 3")
        assert results.store.history(members(results)[0]) == [{"step": s, "loss": s / 4} for s in (1, 2)]


@contextmanager
def seen_at_each_step(steps: int) -> Iterator[list[dict[str, Any]]]:
    """What another reader sees of seed 1 in `out` at each step; it then lets the program go on to the next."""
    seen: list[dict[str, Any]] = []

    def newest(step: int) -> dict[str, Any] | None:
        with suppress(StoreError):
            store = Store.open("out")
            row = store.last_row(store.member("seed1"))
            return row if row is not None and row["step"] == step else None
        return None

    def watch() -> None:
        give_up = time.monotonic() + 60
        for step in range(1, steps + 1):
            while (row := newest(step)) is None and time.monotonic() < give_up:
                time.sleep(0.02)
            seen.extend([row] if row is not None else [])
            Path(f"go{step}").touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        watcher.join()


class TestPredictions:
    TEXT = """
import sys, numpy as np
p = np.array([[0.2, 0.8], [0.6, 0.4]])
ids = {"ids": np.array([5, 9])} if len(sys.argv) > 3 else {}
np.savez(sys.argv[2] + "/p.npz", targets=np.array([1, 0]), probs=p, **ids)
print('{"test/accuracy": 1.0}')
"""

    def results(self, *words: str) -> Results:
        command = [PYTHON, script(self.TEXT), "{seed}", "{dir}", *words]
        config = {"command": command, "collect": {"predictions": {"test": "p.npz"}}}
        return run(config, seeds=[1], out="out", engine="inline")

    def test_they_are_kept_for_ensembles(self) -> None:
        results = self.results("ids")
        kept = results.store.predictions(members(results)[0], "test")
        assert kept is not None
        assert kept.ids.tolist() == [5, 9]
        np.testing.assert_array_equal(kept.probs, [[0.2, 0.8], [0.6, 0.4]])
        assert "predictions/test" in record(results).digests

    def test_without_ids_the_order_of_rows_is_an_assumption_said_aloud(self) -> None:
        results = self.results()
        assert any("no ids" in note for note in record(results).notes)


class TestEndings:
    def test_an_exit_code_quotes_the_last_words(self) -> None:
        said = failure(sweep_of('raise ValueError("lr is negative")'))
        assert said == "raised: exit code 1: ValueError: lr is negative"

    def test_metrics_before_a_crash_do_not_make_it_a_result(self) -> None:
        assert "exit code 3" in failure(sweep_of("print('{\"a\": 1}'); raise SystemExit(3)"))

    def test_signals_are_named(self) -> None:
        text = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        assert failure(sweep_of(text)).startswith("killed: ended by SIGSEGV")

    @pytest.mark.parametrize(
        ("code", "words", "kind", "said"),
        [
            (-9, "", "killed", "out of memory"),
            (139, "", "killed", "128 + SIGSEGV"),
            (1, "torch.OutOfMemoryError: CUDA out of memory.", "out of memory", "smaller batch"),
            (1, "RuntimeError: x does not have a deterministic implementation", "nondeterministic", "exit code 1"),
            (255, "", "raised", "exit code 255"),
        ],
    )
    def test_what_an_exit_code_stands_for(self, code: int, words: str, kind: str, said: str) -> None:
        found = failure_of(code, words)
        assert found is not None
        assert found.kind == kind
        assert said in found.message

    def test_a_time_limit_ends_the_program_and_all_it_started(self) -> None:
        text = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
open(sys.argv[2] + "/child", "w").write(str(child.pid))
print("waiting")
time.sleep(600)
"""
        begun = time.monotonic()
        results = sweep_of(text, "{seed}", "{dir}", timeout=1.0)
        assert "timeout: still running after 1 s" in failure(results)
        assert "waiting" in (folder(results) / "log.txt").read_text()
        assert time.monotonic() - begun < 30
        assert ends(int((folder(results) / "child").read_text()))

    def test_a_program_deaf_to_the_request_is_ended_all_the_same(self) -> None:
        text = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[2] + "/pid", "w").write(str(os.getpid()))
time.sleep(600)
"""
        results = sweep_of(text, "{seed}", "{dir}", timeout=1.0)
        assert "timeout" in failure(results)
        assert ends(int((folder(results) / "pid").read_text()))

    def test_what_it_leaves_in_the_background_neither_delays_nor_survives(self) -> None:
        text = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"])  # holds our stdout open
open(sys.argv[2] + "/child", "w").write(str(child.pid))
print('{"a": 1}')
"""
        results = sweep_of(text, "{seed}", "{dir}")
        assert record(results).metrics == {"a": 1.0}
        assert ends(int((folder(results) / "child").read_text()))


class TestMode:
    TEXT = """
import json, os
names = "PYTHONHASHSEED CUBLAS_WORKSPACE_CONFIG OMP_NUM_THREADS MKL_NUM_THREADS CUDA_VISIBLE_DEVICES SWEEP_SEED"
print(json.dumps({"seen": {name: os.environ.get(name) for name in names.split()}}))
print('{"a": 1}')
"""

    def seen(self, results: Results) -> dict[str, str]:
        log = (folder(results) / "log.txt").read_text().splitlines()
        found: dict[str, str] = json.loads(next(line for line in log if '"seen"' in line))["seen"]
        return found

    def test_deterministic_mode_passes_what_works_from_outside_and_promises_no_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONHASHSEED", "random")
        results = sweep_of(self.TEXT, deterministic=True, threads=2, device="cpu")
        assert self.seen(results) == {
            "PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "2",
            "MKL_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "", "SWEEP_SEED": "1",
        }  # fmt: skip
        assert any("bits are not promised" in note for note in record(results).notes)
        # A flag proves nothing: the environment's own switches are not the program's.
        assert of_environments(origin_of(record(results)), origin_of(record(results))).answer is Answer.MAY_MATCH

    def test_fast_mode_leaves_hash_order_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        results = sweep_of(self.TEXT)
        assert self.seen(results)["PYTHONHASHSEED"] is None
        assert not any("deterministic" in note for note in record(results).notes)


class TestBeforeAnythingStarts:
    @pytest.mark.parametrize(
        ("words", "params", "error", "said"),
        [
            ([PYTHON, "train.py"], {}, ConfigError, "every seed would be the same run"),
            ([PYTHON, "train.py", "{seeds}"], {}, ConfigError, "did you mean {seed} for {seeds}"),
            (["no-such-program", "{seed}"], {}, TargetError, "'no-such-program' was not found"),
            (["./train.py", "{seed}"], {}, TargetError, "is not executable"),
            ([PYTHON, "train.py", "{seed}"], {"lr": 1}, ConfigError, "does not use params.lr"),
            ([PYTHON, "train.py", "{seed}", "{params.lr}"], {}, ConfigError, "has no value"),
        ],
    )
    def test_it_is_refused(self, words: list[str], params: dict[str, Any], error: type[SweepError], said: str) -> None:
        script("pass")
        with pytest.raises(error, match=said):
            run({"command": words, "params": params}, seeds=[1], out="out", engine="inline")
        assert not Path("out").exists()

    def test_a_program_that_reads_the_variable_needs_no_placeholder(self) -> None:
        script('import os; print("{\\"a\\": %s}" % os.environ["SWEEP_SEED"])')
        results = run({"command": [PYTHON, "train.py"]}, seeds=[5], out="out", engine="inline")
        assert record(results).metrics == {"a": 5.0}

    def test_a_grid_reaches_the_program_through_its_placeholders(self) -> None:
        results = sweep_of(
            'import sys; print("{\\"a\\": %s}" % sys.argv[2])', "{seed}", "{params.lr}", grid={"params.lr": [0.5, 2]}
        )
        assert sorted(m.record.metrics["a"] for m in members(results) if m.record) == [0.5, 2.0]

    def test_another_script_is_another_experiment_but_a_comment_changes_nothing(self) -> None:
        sweep_of('print("{\\"a\\": 1}")')
        sweep_of('print("{\\"a\\": 1}")  # said again')
        with pytest.raises(StoreError):
            sweep_of('print("{\\"a\\": 2}")')

    def test_a_module_beside_the_script_belongs_to_it(self) -> None:
        Path("helper.py").write_text("value = 1")
        words = [PYTHON, script("import helper"), "{seed}"]
        before = argv.digest(words)
        Path("helper.py").write_text("value = 2")
        assert argv.digest(words) != before

    def test_python_is_the_activated_one_else_the_one_beside_us(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours = os.path.dirname(PYTHON)
        monkeypatch.setenv("PATH", "/somewhere")
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        monkeypatch.delenv("CONDA_PREFIX", raising=False)
        assert argv.search_path().split(os.pathsep) == [ours, "/somewhere"]
        monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
        assert argv.search_path().split(os.pathsep) == ["/somewhere", ours]

    @pytest.mark.parametrize(
        ("words", "name"),
        [
            (["python", "train.py", "{seed}"], "train"),
            (["torchrun", "--nproc", "1", "train.py"], "train"),
            (["python", "-m", "package.fit", "{seed}"], "fit"),
            (["my-program", "{seed}"], "my-program"),
        ],
    )
    def test_the_name_is_the_scripts(self, words: list[str], name: str) -> None:
        script("pass")
        Path("package").mkdir()
        script("pass", "package/fit.py")
        assert argv.named({"command": words}, [])["name"] == name


def test_files_that_a_program_names_like_our_checkpoints_are_its_own() -> None:
    text = """
import os, sys
os.mkdir(sys.argv[2] + "/checkpoint-500")
open(sys.argv[2] + "/checkpoint-best.pt", "w").write("weights")
print('{"a": 1}')
"""
    results = sweep_of(text, "{seed}", "{dir}")
    assert record(results).status == "ok"
    assert (folder(results) / "checkpoint-500").is_dir()
    assert "checkpoint-best.pt" in record(results).artifacts


def test_secrets_among_the_words_reach_the_program_and_no_file() -> None:
    text = 'import sys; assert sys.argv[2] == "--api-key=hunter2"; print(\'{"a": 1}\')'
    results = sweep_of(text, "{seed}", "--api-key=hunter2")
    assert record(results).status == "ok"
    assert not [p for p in Path("out").rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]


class TestCommandLine:
    def test_everything_after_the_dashes_is_the_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        script('import sys; print("acc: 0.5 --seeds", sys.argv[2:]); print("acc: 0.75")')
        words = ["--seeds", "1,2", "--engine", "inline", "--metrics", "acc: (?P<acc>[0-9.]+)"]
        program = [PYTHON, "train.py", "{seed}", "--seeds", "9", "--debug"]
        assert main(["run", *words, "collect.names.acc=test/accuracy", "--", *program]) == 0
        out = capsys.readouterr().out
        assert "0.7500" in out
        assert "2 planned = 2 ok" in out
        assert "--seeds', '9', '--debug'" in next(Path("runs/train/members").rglob("log.txt")).read_text()

    def test_what_failed_is_trained_again_by_the_directory_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        script("raise SystemExit(1)")
        assert main(["run", "--engine", "inline", "--", PYTHON, "train.py", "{seed}"]) == 1
        (line,) = [text for text in capsys.readouterr().out.splitlines() if "--retry-failed" in text]
        assert "sweep resume runs/train --retry-failed" in line

    def test_a_config_that_names_another_way_to_train_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("mine.yaml").write_text("train: mine:train\n")
        assert main(["run", "mine.yaml", "--", PYTHON, "-c", "{seed}"]) == 2
        assert "train and command cannot be combined" in capsys.readouterr().err

    def test_metrics_that_are_nowhere(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--metrics", "accuracy", "--", PYTHON, "-c", "{seed}"]) == 2
        assert "does not say where the metrics are" in capsys.readouterr().err

    def test_other_commands_take_no_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["status", "runs/x", "--", "ls"]) == 2
        assert "take a command after --" in capsys.readouterr().err


def test_a_config_can_name_the_program() -> None:
    Path("mine.yaml").write_text('command: [python, train.py, "{seed}"]\ncollect: {regex: "a=(?P<a>.*)"}\n')
    assert load("mine.yaml").command == ("python", "train.py", "{seed}")


def test_events_of_a_command_carry_its_metrics() -> None:
    seen = []
    script('print("{\\"a\\": 1}")')
    run(
        {"command": [PYTHON, "train.py", "{seed}"]}, seeds=[1, 2], out="out", engine="inline",
        on_event=lambda event: seen.append(event) if isinstance(event, Finished) else None,
    )  # fmt: skip
    assert [dict(event.record.metrics) for event in seen] == [{"a": 1.0}, {"a": 1.0}]
