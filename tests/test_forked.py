"""A run of the user's code has a process of its own: what any code does to its process, no other seed sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import gone, until

import sweep
from sweep import Results, forkserver
from sweep.launch import Event, Retried
from sweep.store import Member
from sweep.train.recipe import Recipe
from sweep.worker import forked

pytestmark = pytest.mark.skipif(not forkserver.POSSIBLE, reason="processes cannot be forked here")

Function = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user; what is imported from it is imported in other processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def run(function: Any, seeds: str = "1", **settings: Any) -> Results:
    return sweep.run(function, seeds=seeds, engine="inline", out=settings.pop("out", "runs"), **settings)


def members(results: Results) -> dict[int, Member]:
    return {member.seed: member for member in results.store.scan(verify=True)}


def log(results: Results, seed: int = 1) -> str:
    path = results.store.log(members(results)[seed])
    return path.read_text() if path else ""


def failure(results: Results, seed: int = 1) -> Any:
    record = members(results)[seed].record
    assert record is not None
    assert record.failure is not None
    return record.failure


LEAKS = """
import functools, logging, os, random, threading
import numpy as np
import torch

generator = np.random.default_rng(0)
model = torch.nn.Linear(2, 1)
count = 0


@functools.lru_cache
def noise():
    return torch.randn(100).mean()


def grown(so_far=[]):
    so_far.append(1)
    return len(so_far)


def train(run, *, how: str):
    global count
    count += 1
    if how == "a module's generator":
        x = generator.random()
    elif how == "a module's model":
        with torch.no_grad():
            model.weight += torch.randn(1, 2)
        x = model.weight.sum()
    elif how == "a counter":
        x = count
    elif how == "what is computed once":
        x = noise()
    elif how == "a default argument":
        x = grown()
    elif how == "a hook":
        before = [0]
        torch.nn.modules.module.register_module_forward_hook(lambda *_: before.__setitem__(0, before[0] + run.seed))
        x = torch.nn.Identity()(torch.zeros(())) + len(torch.nn.modules.module._global_forward_hooks)
    elif how == "a patched function":
        seed, drawn = run.seed, torch.rand
        x = torch.rand(()) + seed
        torch.rand = lambda *size: drawn(*size) + seed
    elif how == "a switch of attention":
        x = float(torch.backends.cuda.math_sdp_enabled())
        torch.backends.cuda.enable_math_sdp(False)
    elif how == "a log's handler":
        x = len(logging.getLogger().handlers)
        logging.basicConfig()
    elif how == "a thread":
        x = threading.active_count()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    elif how == "what may be set once":
        torch.multiprocessing.set_start_method("spawn")
        torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)
        x = 1
    return {"test/x": float(x)}
"""
HOW = [
    "a module's generator", "a module's model", "a counter", "what is computed once", "a default argument", "a hook",
    "a patched function", "a switch of attention", "a log's handler", "a thread", "what may be set once",
]  # fmt: skip


def leaking(seeds: str, out: str, possible: bool = True) -> dict[tuple[str, int], Any]:
    """The results of a launch in a process of its own, which they may spoil."""
    config = {"name": "leaks", "train": "leaks:train", "grid": {"params.how": HOW}}
    call = f"sweep.run({config!r}, seeds={seeds!r}, engine='inline', out={out!r})"
    code = f"import sweep, sweep.forkserver; sweep.forkserver.POSSIBLE = {possible}; {call}"
    subprocess.run([sys.executable, "-c", code], check=True)
    records = [member.record for member in sweep.open(out).store.scan()]
    return {(r.spec["params"]["how"], r.spec["seed"]): dict(r.metrics) for r in records if r and r.status == "ok"}


@pytest.mark.walk
def test_a_seed_has_the_result_it_has_alone_whoever_went_before_it(folder: Path) -> None:
    (folder / "leaks.py").write_text(LEAKS)
    forth, back = leaking("1,2", "forth"), leaking("2,1", "back")
    assert len(forth) == 2 * len(HOW)
    assert forth == back
    shared = leaking("1,2", "shared", possible=False)  # the control: one process for all, as it must be elsewhere
    assert len({how for how, seed in forth if shared.get((how, seed)) != forth[how, seed]}) > 5


def test_a_record_says_in_what_process_its_run_was_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(run: Any) -> Any:
        return {"test/pid": os.getpid()}

    apart = run(train, "1,2")
    monkeypatch.setattr(forkserver, "POSSIBLE", False)
    together = run(train, "1,2", out="together")
    command = sweep.run(
        {"command": ["echo", "x={seed}"], "collect": {"regex": "x=(?P<x>.)"}}, engine="inline", seeds=[1], out="command"
    )

    def said(results: Results) -> list[tuple[Any, Any]]:
        contexts = [m.record.context for m in members(results).values() if m.record is not None]
        return [(context["process"], context["first_in_process"]) for context in contexts]

    assert said(apart) == [("forked", True)] * 2
    assert len({*apart.frame["test/pid"], os.getpid()}) == 3
    assert said(together)[1] == ("shared", False)
    assert said(command) == [("own", True)]


RECIPE = """
import os
from sweep.train.recipes import classifier

def mine(*, epochs: int = 1):
    return classifier(epochs=epochs)
"""


def test_a_recipe_of_the_users_has_a_process_of_its_own_and_a_built_in_one_shares(folder: Path) -> None:
    (folder / "own.py").write_text(RECIPE)
    theirs = sweep.run({"name": "theirs", "recipe": "own:mine"}, seeds=[1], engine="inline")
    ours = sweep.run({"name": "ours", "params": {"epochs": 1}}, seeds=[1], engine="inline")
    records = [members(each)[1].record for each in (theirs, ours)]
    assert [record and record.context["process"] for record in records] == ["forked", "shared"]
    assert len({record.digests["final"] for record in records if record is not None}) == 1
    assert Recipe.__module__.startswith("sweep.")


def test_all_output_of_a_run_is_in_its_log_and_none_on_the_screen(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def train(run: Any) -> Any:
        import faulthandler
        import logging
        import subprocess
        import sys

        logging.basicConfig(level=logging.INFO)
        logging.info("logged by %d", run.seed)
        sys.stdout.buffer.write(b"bytes\n")
        print("encoded".encode(sys.stdout.encoding))
        sys.stdout.reconfigure(line_buffering=True)
        subprocess.run(["echo", "by a child"], stdout=sys.stdout, check=True)
        os.system("echo by a shell; echo and its errors >&2")
        os.write(1, b"by the system\n")
        faulthandler.enable()
        run.note("noted")
        print("unfinished", end="")
        return {"test/x": run.seed}

    results = run(train, "1,2")
    assert results.frame["status"].tolist() == ["ok", "ok"]
    for said in ("bytes", "b'encoded'", "by a child", "by a shell", "and its errors", "by the system", "noted"):
        assert said in log(results, 2).splitlines()
    assert "unfinished" in log(results, 2)
    assert "logged by 2" in log(results, 2)
    assert "logged by 2" not in log(results, 1)
    assert "by a child" not in "".join(capfd.readouterr())


def test_a_log_written_past_us_is_cut_as_any_other(folder: Path) -> None:
    def train(run: Any) -> Any:
        print("first")
        for _ in range(40):
            os.write(1, b"x" * 999_999 + b"\n")
        print("last")
        return {"test/x": 1}

    text = log(run(train))
    assert len(text) < 17 << 20
    assert text.startswith("first\n")
    assert text.endswith("last\n")


@pytest.mark.parametrize("how", ["breakpoint", "input", "pdb"])
def test_what_asks_a_keyboard_fails_at_once_and_is_told_that_there_is_none(folder: Path, how: str) -> None:
    def train(run: Any) -> Any:
        if how == "breakpoint":
            breakpoint()
        elif how == "input":
            input("? ")
        else:
            __import__("pdb").set_trace()
        return {"test/x": 1}

    found = failure(run(train))
    assert found.kind == "raised"
    assert "keyboard" in found.message


@pytest.mark.parametrize("how", ["no alarm", "catches all", "ignores", "returns late"])
def test_deaf_code_is_ended_at_its_time_and_at_once_called_late(folder: Path, how: str) -> None:
    def train(run: Any) -> Any:
        over: list[int] = []
        if how == "no alarm":
            signal.setitimer(signal.ITIMER_REAL, 0)
        if how == "ignores":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if how == "returns late":
            signal.signal(signal.SIGTERM, lambda *_: over.append(1))
        while not over:
            with suppress(BaseException):
                time.sleep(0.05)
        return {"test/x": 1}

    results = run(train, timeout=0.5)
    assert failure(results).kind == "timeout"
    assert "0.5 s" in failure(results).message
    assert results.frame["attempts"].tolist() == [1]
    assert "in train" in log(results)


def test_a_run_in_time_is_not_late(folder: Path) -> None:
    def train(run: Any) -> Any:
        time.sleep(0.2)
        return {"test/x": 1}

    assert run(train, timeout=60).frame["status"].tolist() == ["ok"]


@pytest.mark.parametrize("work", [0.0, 0.3])
def test_a_child_that_the_code_forks_ends_where_its_own_code_ends(folder: Path, work: float) -> None:
    def train(run: Any) -> Any:
        child = os.fork()
        if child == 0:
            time.sleep(0.1)
            raise SystemExit(3)
        time.sleep(work)
        return {"test/code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

    results = run(train, "1,2")
    assert results.frame["test/code"].tolist() == [3, 3]
    assert results.frame["attempts"].tolist() == [1, 1]


def test_pools_and_loaders_work_within_a_run(folder: Path) -> None:
    def train(run: Any) -> Any:
        import multiprocessing

        with multiprocessing.Pool(2) as pool:
            squares = sum(pool.map(abs, range(-3, 4)))
        loader = torch.utils.data.DataLoader(torch.arange(8.0), batch_size=2, num_workers=2)
        return {"test/squares": squares, "test/sum": float(sum(batch.sum() for batch in loader))}

    results = run(train, "0-3", timeout=60)
    assert results.frame["status"].tolist() == ["ok"] * 4
    assert set(results.frame["test/squares"]) == {12}
    assert set(results.frame["test/sum"]) == {28}


POOLS_LEFT_OPEN = """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from joblib import Parallel, delayed

kept = []


def same(x):
    return x


def train(run, *, kind: str):
    if kind == "joblib":  # whose workers wait five minutes for more
        return {"test/sum": float(sum(Parallel(2)(delayed(same)(i) for i in range(10))))}
    kept.append(ProcessPoolExecutor(2) if kind == "processes" else ThreadPoolExecutor(2))
    return {"test/sum": float(sum(kept[0].map(same, range(10))))}
"""


@pytest.mark.parametrize("kind", ["joblib", "processes", "threads"])
def test_a_pool_that_the_code_leaves_open_ends_with_its_run(folder: Path, kind: str) -> None:
    (folder / "open_pools.py").write_text(POOLS_LEFT_OPEN)
    config = {"train": "open_pools:train", "params": {"kind": kind}, "timeout": 30, "seeds": [1, 2]}
    results = sweep.run(config, engine="inline", out="runs", on_event=lambda event: None)
    assert results.frame["status"].tolist() == ["ok", "ok"]
    assert results.frame["test/sum"].tolist() == [45.0, 45.0]


@pytest.mark.parametrize("how", ["in its group", "in a session of its own", "deaf"])
def test_nothing_that_a_run_has_started_outlives_it(folder: Path, how: str) -> None:
    def train(run: Any) -> Any:
        import subprocess

        trap = "trap '' TERM; " if how == "deaf" else ""
        child = subprocess.Popen(["/bin/sh", "-c", f"{trap}sleep 600 & sleep 600"], start_new_session=how[3:4] == "a")
        return {"test/pid": child.pid, "test/own": os.getpid()}

    frame = run(train).frame
    assert all(gone(int(pid)) for pid in (*frame["test/pid"], *frame["test/own"]))


SLEEPY = """
import os, subprocess, time

def train(run):
    if (run.dir.parents[3] / 'pids').exists():
        return {'test/x': 1}
    child = subprocess.Popen(['sleep', '600'])
    fork = os.fork()  # as a loader's worker
    if fork:
        pids = f'{os.getppid()} {os.getpid()} {child.pid} {fork}'
        (run.dir.parents[3] / 'pids.tmp').write_text(pids)
        os.rename(run.dir.parents[3] / 'pids.tmp', run.dir.parents[3] / 'pids')
    time.sleep(600)
"""


def pids_of(folder: Path) -> list[int]:
    """The fork server and what runs below it, once it does."""
    until((folder / "pids").exists)
    return [int(word) for word in (folder / "pids").read_text().split()]


def test_nothing_is_left_of_a_launch_that_was_killed(folder: Path) -> None:
    (folder / "sleepy.py").write_text(SLEEPY)
    words = ["run", "train=sleepy:train", "--engine", "inline", "--seeds", "1", "--out", "runs"]
    launch = subprocess.Popen([sys.executable, "-m", "sweep.cli", *words], stdout=subprocess.DEVNULL)
    try:
        pids = pids_of(folder)
    finally:
        launch.kill()
        launch.wait()
    until(lambda: all(map(gone, pids)))


def killed(how: str, mark: str) -> Function:
    def train(run: Any) -> Any:
        if not Path(mark, str(run.seed)).exists():
            Path(mark, str(run.seed)).touch()
            if how == "a program":
                subprocess.run(["sh", "-c", "kill -KILL $$"], check=True)
            if how == "a loader's worker":

                class Data(torch.utils.data.Dataset[Any]):
                    def __len__(self) -> int:
                        return 4

                    def __getitem__(self, index: int) -> Any:
                        os.kill(os.getpid(), signal.SIGKILL)

                list(torch.utils.data.DataLoader(Data(), num_workers=1))
            os.kill(os.getpid(), getattr(signal, how))
        return {"test/x": run.seed}

    return train


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGTERM", "a loader's worker", "a program"])
def test_a_run_killed_once_is_lost_and_trained_again(folder: Path, how: str) -> None:
    events: list[Event] = []
    results = run(killed(how, os.getcwd()), "1,2", on_event=events.append)
    assert results.frame["status"].tolist() == ["ok", "ok"]
    assert results.frame["attempts"].tolist() == [2, 2]
    causes = [event.cause for event in events if isinstance(event, Retried)]
    assert len(causes) == 2
    said = {"a loader's worker": "killed by signal: Killed", "a program": "died with <Signals.SIGKILL: 9>"}
    assert all(said.get(how, how) in cause for cause in causes)


def test_a_killed_loader_worker_costs_a_retry_in_a_shared_process_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "POSSIBLE", False)  # then a function is trained as a built-in recipe is
    results = run(killed("a loader's worker", os.getcwd()), "1,2")
    assert results.frame["status"].tolist() == ["ok", "ok"]
    assert results.frame["attempts"].tolist() == [2, 2]


def test_a_run_killed_every_time_has_failed_with_the_signal_in_its_cause(folder: Path) -> None:
    def train(run: Any) -> Any:
        if run.seed == 2:
            os.abort()
        return {"test/x": 1}

    results = run(train, "1,2")
    assert (failure(results, 2).kind, members(results)[2].attempts) == ("killed", 4)
    assert "SIGABRT" in failure(results, 2).message
    assert members(results)[1].status == "ok"


@pytest.mark.parametrize("size", [0.01, 0.9])
def test_a_run_that_the_system_ended_for_want_of_memory_is_to_blame_where_it_held_most_of_it(size: float) -> None:
    ended = forkserver.Ended(-signal.SIGKILL, memory=int(size * forked._memory()))
    accident = forked._accident(ended, oom_kills=forked._oom_kills() - 1)
    assert "--jobs" in accident.cause
    assert accident.poison == (size > 0.5)
    assert forked._accident(ended, oom_kills=forked._oom_kills()).poison  # nobody knows who killed it


def test_a_command_killed_from_outside_is_lost_and_one_that_crashes_has_failed(folder: Path) -> None:
    script = 'test -e {seed} && echo x=1 && exit; touch {seed}; kill -s "$0" $$'

    def status(signal_: str) -> Any:
        made = {"command": ["/bin/sh", "-c", script, signal_], "collect": {"regex": "x=(?P<x>.)"}}
        return sweep.run(made, seeds=[1], engine="inline", out=f"runs-{signal_}").frame["status"].tolist()

    assert status("KILL") == ["ok"]
    Path("1").unlink()
    assert status("SEGV") == ["failed"]


def test_what_is_written_at_exit_belongs_to_the_run(folder: Path) -> None:
    def train(run: Any) -> Any:
        import atexit

        registered = open(run.dir / "registered.csv", "w")  # noqa: SIM115
        atexit.register(registered.close)
        registered.write("1,2\n")
        run.forgotten = open(run.dir / "forgotten.csv", "w")  # noqa: SIM115
        run.forgotten.write("3,4\n")
        return {"test/x": 1}

    member = members(run(train))[1]
    assert member.status == "ok"
    assert member.folder is not None
    assert (member.folder / "registered.csv").read_text() == "1,2\n"
    assert (member.folder / "forgotten.csv").read_text() == "3,4\n"


@pytest.mark.parametrize("call", range(0, 30, 3))
def test_a_run_that_dies_while_it_is_recorded_is_recorded_once(folder: Path, call: int) -> None:
    here = os.getcwd()

    def train(run: Any) -> Any:
        from sweep.store import atomic

        mark = Path(here, "died")
        if not mark.exists():
            left = [call]

            def dying(real: Function) -> Function:
                def instead(*arguments: Any) -> Any:
                    if not left[0]:
                        mark.touch()
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                    return real(*arguments)

                return instead

            for name in ("_open", "_write", "_fsync", "_replace", "_link"):
                setattr(atomic, name, dying(getattr(atomic, name)))
        run.log({"train/loss": 1.0}, step=1)
        run.save_model(torch.nn.Linear(1, 1))
        return {"test/x": run.seed}

    results = run(train, "1,2")
    assert results.frame["status"].tolist() == ["ok", "ok"]
    assert results.frame["test/x"].tolist() == [1, 2]
    assert not list(Path("runs").rglob(".tmp-*"))


def test_a_stop_reaches_a_run_at_its_next_row(folder: Path) -> None:
    def train(run: Any) -> Any:
        run.attempt.path.parents[2].joinpath(f"stop-{run.attempt.owner.nonce}").touch()
        time.sleep(0.1)
        run.log({"train/loss": 1.0}, step=1)
        return {"test/x": 1}

    assert members(run(train))[1].status == "stopped"


# The last ones end the fork server that the others share, or need another one.


def test_an_interrupt_ends_what_was_forked(folder: Path) -> None:
    mark = folder / "pid"

    def train(run: Any) -> Any:
        mark.write_text(str(os.getpid()))
        while True:
            time.sleep(1)

    def interrupt() -> None:
        until(lambda: mark.exists() and mark.read_text())
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(train)
    assert gone(int(mark.read_text()))
    assert members(sweep.open("runs"))[1].status == "stopped"


def test_a_run_whose_fork_server_was_killed_is_trained_again_and_nothing_is_left(folder: Path) -> None:
    (folder / "sleepy.py").write_text(SLEEPY)
    ended: list[bool] = []

    def kill() -> None:
        of_the_forkserver, *below = pids_of(folder)
        os.kill(of_the_forkserver, signal.SIGKILL)
        until(lambda: all(map(gone, (of_the_forkserver, *below))))
        ended.append(True)

    killer = threading.Thread(target=kill)
    killer.start()
    results = run({"train": "sleepy:train"}, retries=0)
    killer.join()
    assert ended
    assert results.frame["status"].tolist() == ["ok"]
    assert results.frame["attempts"].tolist() == [2]


@pytest.mark.usefixtures("no_canary")
def test_variables_that_an_interpreter_reads_once_hold_in_deterministic_mode(folder: Path) -> None:
    def train(run: Any) -> Any:
        import sys

        return {"test/random": sys.flags.hash_randomization, "test/set": os.environ["CUBLAS_WORKSPACE_CONFIG"] != ""}

    def plain(run: Any) -> Mapping[str, float]:
        return {name: float(value) for name, value in train(run).items()}

    record = members(run(plain, deterministic=True))[1].record
    assert record is not None
    assert record.metrics == {"test/random": 0, "test/set": 1}
    assert record.environment["hash_seed"] == "0"
