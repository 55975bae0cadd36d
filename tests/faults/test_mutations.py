"""Every file of a valid directory mutated and sealed again, each reading command: no traceback, no hang, no harm.

A command runs in a fork of this process, which has loaded everything; every tenth in an interpreter of its own, where
what is imported from the working folder shows. `MUTATIONS=5000 pytest tests/faults/test_mutations.py` tries so many;
`MUTATIONS=700-900` those of these numbers.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from kit import environment
from mutations import RECIPE, build, contents, copied, mutate, reseal

import sweep.adoption
import sweep.analysis.overview
import sweep.archive
import sweep.cli.adopt
import sweep.cli.compare
import sweep.cli.ensemble
import sweep.cli.evaluate
import sweep.cli.export
import sweep.cli.read
import sweep.cli.run
import sweep.cli.verify
import sweep.cli.watch
import sweep.ensemble
import sweep.ensemble.load
import sweep.evaluation
import sweep.report.comparison
import sweep.report.evaluation
import sweep.report.html
import sweep.train.loop  # noqa: F401  all is loaded before the first fork
from sweep.cli.app import main

SECONDS = 5  # of a processor: the machine may be busy with other work
LOADING = 10  # more of them where an interpreter starts
COLD = 10  # every tenth command has one
WAITING = 90  # of the clock, for what waits and does not work
MEMORY = 1 << 30
NUMBERS = os.environ.get("MUTATIONS", "16-76")  # the sixty in which one command, not two, trains in new processes
UNFORESEEN = re.compile(r"^Traceback|^sweep: \w*Error: |MemoryError", re.MULTILINE)
READING = (
    ["status", "{sent}"], ["status", "{sent}", "--json"], ["report", "{sent}"], ["report", "{sent}", "--json"],
    ["report", "{sent}", "--format", "md"], ["report", "{sent}", "{other}", "--format", "latex"],
    ["report", "{sent}", "--html", "{out}/page.html"], ["report", "{sent}", "--group-by", "lr"], ["watch", "{sent}"],
    ["compare", "{sent}", "{other}"], ["compare", "{sent}"], ["ensemble", "{sent}"],
    ["ensemble", "{sent}", "--format", "json", "--allow-missing"],
    ["export", "{sent}", "--to", "csv", "--out", "{out}/csv"],
    ["export", "{sent}", "--to", "parquet", "--out", "{out}/parquet"],
    ["export", "{sent}", "--to", "tensorboard", "--out", "{out}/tensorboard"],
    ["items", "{sent}"], ["items", "{sent}", "--json"], ["items", "{sent}", "--against", "{other}"],
    ["examples", "{sent}", "--variant", "lr-1", "--allow-missing"], ["examples", "{sent}", "--allow-missing", "--json"],
    ["pack", "{sent}", "--out", "{out}/made.zip"], ["verify", "{sent}"], ["collect", "{sent}"],
)  # fmt: skip
PACKED = (
    ["status", "{sent}/sent.zip", "--json"], ["report", "{sent}/sent.zip"],
    ["report", "{sent}/sent.zip", "--html", "{out}/page.html"], ["compare", "{sent}/sent.zip"],
    ["ensemble", "{sent}/sent.zip", "--variant", "lr-1", "--allow-missing"], ["items", "{sent}/sent.zip"],
    ["export", "{sent}/sent.zip", "--to", "csv", "--out", "{out}/csv"],
    ["examples", "{sent}/sent.zip", "--variant", "lr-1", "--allow-missing"], ["watch", "{sent}/sent.zip"],
    ["predict", "{sent}/sent.zip", "{base}/inputs.npy", "--out", "{out}/said.npz"],
    ["pack", "{sent}/sent.zip", "--out", "{out}/again.zip"],
    *([name, "{sent}/sent.zip"] for name in ("verify", "reproduce", "collect")),
    ["resume", "{sent}/sent.zip", "--engine", "inline"],
)  # fmt: skip
ADOPTING = tuple(
    ["adopt", *words, "--out", "{out}/adopted", "--yes"]
    for words in (
        ["{sent}/files/seed{seed}/metrics.csv"], ["{sent}/files/seed{seed}/result.json"], ["{sent}/files/seed{seed}"],
        ["{sent}/files/seed{seed}/log.txt", "--metrics", "epoch {number} acc={number}"], ["{sent}/mlruns"],
        ["{sent}/mlflow.db"], ["{sent}/lightning"], ["{sent}/tune"], ["{sent}/table.csv"], ["{sent}/table.parquet"],
        ["{sent}/table.jsonl"], ["{sent}/events/seed{seed}", "--metrics", "tensorboard:."],
    )
)  # fmt: skip
PREDICTING = (
    ["predict", "{sent}", "{base}/inputs.npy", "--out", "{out}/said.npz", "--allow-missing"],
    ["predict", "{sent}", "{base}/inputs.npz", "--out", "{out}/said.npy", "--json", "--allow-missing"],
)
OPTIONS = ["--engine", "inline", "--out", "{sent}"]
RESUME = ["resume", "{sent}", "--engine", "inline"]
# They train, and write into the directory.
WRITING = {
    "made": (["reproduce", "{sent}"], RESUME),
    "trained": (
        ["run", *RECIPE, "--deterministic", "--seeds", "1-3", *OPTIONS],
        ["run", *RECIPE, "--deterministic", "--seeds", "1-3", *OPTIONS, "--retry-failed"],
        ["ml-train", *RECIPE, "--deterministic", "--seed", "3", "--out", "{sent}"],
        ["reproduce", "{sent}"], ["verify", "{sent}"], ["verify", "{sent}", "--audit"], RESUME,
    ),
    "program": (
        ["collect", "{sent}"], ["collect", "{sent}", "--metrics", "log.csv"],
        ["collect", "{sent}", "--metrics", "val/loss={number}"], ["collect", "{sent}", "--json"],
        ["run", "--seeds", "1-3", *OPTIONS, "--", sys.executable, "{base}/code/program.py", "{seed}", "{dir}"],
        ["reproduce", "{sent}"], RESUME,
    ),
}  # fmt: skip
MODULES = (
    "torch", "numpy", "json", "safetensors", "pandas", "made", "scipy", "pyarrow", "tensorboard", "matplotlib",
    "jinja2", "fsspec", "ray", "sklearn", "cloudpickle", "sitecustomize", "pickle", "rich", "program", "sweep",
)  # fmt: skip


INTERPRETER = (sys.executable, "-P", "-m", "sweep.cli")


def said(words: list[str], folder: Path, output: Path, cold: Sequence[str] = ()) -> str:
    """Return what is wrong with a command's end, in a process of its own; nothing where all is well.

    cold: the program that is started for it, instead of a fork of this process.
    """
    child = os.fork()
    if child == 0:
        _become(words, folder, output, cold)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace")
    if code in (0, 1, 2, 3, 4) and not UNFORESEEN.search(text):
        return ""
    return f"exit {code}: {text[-2500:]}"


def _become(words: list[str], folder: Path, output: Path, cold: Sequence[str]) -> NoReturn:
    code = 99
    try:
        os.setsid()
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR"), str(output.parent / "here/out"))
        os.environ.update(environment(OMP_NUM_THREADS="1", **own))
        tempfile.tempdir = None
        torch.set_num_threads(1)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        seconds = SECONDS + (LOADING if cold else int(time.process_time()))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(WAITING)
        if cold:
            os.execv(cold[0], [*cold, *words])
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", errors="backslashreplace") for fd in (1, 2))
        sys.argv = ["sweep", *words]
        code = main(words)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        sys.__stderr__.flush()
    finally:
        os._exit(code)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("valid")
    build(root)
    return root


def named(words: list[str], **places: str) -> list[str]:
    """Return a command with the names of its places filled in; all other braces are its own."""
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", place) for word in words]
    return words


def case(valid: Path, tmp_path: Path, number: int, seen: Counter[str]) -> str:
    rng = random.Random(number)
    here = tmp_path / "here"
    kind = rng.choice(["made", "made", "made", "trained", "trained", "program", "packed", "results"])
    copied(valid, here, without={"made", "trained", "program", "packed", "results"} - {kind})
    (here / "out").mkdir()
    root = here / kind
    commands = {"packed": PACKED, "results": ADOPTING}.get(kind, READING)
    commands += PREDICTING * 3 if kind == "trained" else ()
    writing = WRITING.get(kind, ())
    words = rng.choice(writing if writing and rng.random() < (0.35 if kind == "program" else 0.08) else commands)
    writes = words in writing
    files = sorted(path for path in root.rglob("*") if path.is_file() and "lock" not in path.name)
    if words in PREDICTING:
        files = [path for path in files if path.name.startswith(("model", "predictions", "record", "sweep"))]
        files += [here / "inputs.npy", here / "inputs.npz"] * (len(files) // 6)
    if kind in WRITING:
        files += [root / "sweep.json"] * (len(files) // 6)
    elif kind == "results":
        files = [path for path in files if path.is_relative_to(_adopted(here, words))]
    path = rng.choice(files)
    mutate(path, rng)
    if rng.random() < 0.8:
        reseal(root)
    inside = rng.random() < 0.5
    for name in MODULES:  # what is imported from the working folder shows itself
        module = (root if inside else here) / f"{name}.py"
        if not module.exists():
            module.write_text("open('ran', 'w').close()\n")
    places = {"sent": ".", "other": "../other", "out": "../out", "base": ".."}
    if not inside:
        places = {"sent": kind, "other": "other", "out": "out", "base": "."}
    filled = named(words, **places)
    before = contents(here, here / "out"), contents(here, root)
    cold = INTERPRETER if number % COLD == 0 else ()
    wrong = said(filled, root if inside else here, tmp_path / "output.txt", cold)
    after = contents(here, here / "out"), contents(here, root)
    strays = set(tmp_path.iterdir()) - {here, tmp_path / "output.txt"}
    ran = [str(each) for each in here.rglob("ran")]
    old, new = before[writes], after[writes]
    outside = {k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in ("out", kind)}
    outside = {k for k in outside if not k.startswith("out/")}
    seen[f"{kind} {words[0]}"] += 1
    if strays or ran or outside:
        wrong += f" changed, made or run: {strays or ''} {ran or ''} {sorted(outside)[:5] or ''}"
    shown = f"{path.relative_to(here)} {'in ' * inside}{kind}{' cold' * bool(cold)}: sweep {' '.join(filled)}"
    return f"{number}: {shown}: {wrong}" if wrong else ""


def _adopted(here: Path, words: list[str]) -> Path:
    """Return the part of the results that a command reads."""
    return here / "results" / words[1].split("/")[1]


def rounds(valid: Path, tmp_path: Path, numbers: range) -> list[str]:
    found: list[str] = []
    seen: Counter[str] = Counter()
    for number in numbers:
        if wrong := case(valid, tmp_path, number, seen):
            found.append(wrong)
            print(wrong, "\n", flush=True)
    print(f"{len(numbers)} commands, {len(found)} wrong: {dict(sorted(seen.items()))}")
    return found


def test_a_directory_that_is_as_it_was_made_is_read(valid: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    copied(valid, here)
    (here / "out").mkdir()
    for kind, commands in (("made", READING), ("trained", PREDICTING)):
        for words in commands:
            filled = named(words, sent=kind, other="other", out="out", base=".")
            assert said(filled, here, tmp_path / "output.txt") == "", filled
    assert (here / "out/said.npz").is_file()


@pytest.mark.parametrize(
    "harm", [lambda: 1 / 0, lambda: time.sleep(60), lambda: bytearray(3 << 30), lambda: os.kill(os.getpid(), 9)],
    ids=["a traceback", "a hang", "memory", "a crash"],
)  # fmt: skip
def test_what_is_looked_for_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object]
) -> None:
    monkeypatch.setattr(f"{__name__}.main", lambda words: harm() and 0)
    monkeypatch.setattr(f"{__name__}.WAITING", 1)
    assert said(["status"], tmp_path, tmp_path / "output.txt")


@pytest.mark.parametrize(
    "harm", ["1 / 0", "import time; time.sleep(60)", "bytearray(9 << 30)", "import os; os.kill(os.getpid(), 9)"],
    ids=["a traceback", "a hang", "memory", "a crash"],
)  # fmt: skip
def test_what_is_looked_for_is_seen_in_an_interpreter_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(f"{__name__}.WAITING", 1)
    assert said([], tmp_path, tmp_path / "output.txt", (sys.executable, "-c", harm))


@pytest.mark.parametrize(
    ("number", "harm", "seen"),
    [
        (1, lambda: Path("new").write_text("x"), "new"), (1, lambda: Path("../new").write_text("x"), "new"),
        (1, lambda: Path("ran").write_text("x"), "ran"), (1, lambda: Path("inputs.npy").unlink(), "inputs.npy"),
        (COLD, lambda: None, "ran"),
    ],
    ids=["a file made", "a file made far outside", "code run", "a file removed", "an import from the working folder"],
)  # fmt: skip
def test_harm_is_seen(
    valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, harm: Callable[[], object], seen: str
) -> None:
    def harming(words: list[str]) -> int:
        os.chdir(tmp_path / "here")
        harm()
        return 0

    monkeypatch.setattr(f"{__name__}.main", harming)
    monkeypatch.setattr(f"{__name__}.INTERPRETER", (sys.executable, "-c", "import torch"))
    assert seen in case(valid, tmp_path, number, Counter()).rpartition("changed, made or run:")[2]


def test_mutated_directories_are_read_or_refused(valid: Path, tmp_path: Path) -> None:
    first, _, last = NUMBERS.rpartition("-")
    assert rounds(valid, tmp_path, range(int(first or 0), int(last))) == []
