"""Every file of a valid directory mutated and sealed again, each reading command: no traceback, no hang, no harm."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished import of_every_kind, sweep_of

import sweep.cli.compare
import sweep.cli.ensemble
import sweep.cli.export
import sweep.cli.read
import sweep.comparison
import sweep.ensemble
import sweep.report.assemble
import sweep.report.html  # noqa: F401  all is loaded before the first fork
from sweep.cli.app import main
from sweep.plan import RunSpec, content_id
from sweep.store import atomic

SECONDS, MEMORY = 5, 1 << 30
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 1e9, 10**30, -0.5, "nan", "inf", "", "x", "../../x", "/etc/passwd", "\x1b[2J\u202e",
    "a" * 9999, [], {}, [[]], [None], {"a": {"b": []}}, [0, 1], {"task": "", "variant": "", "params": {}, "data": ""},
)  # fmt: skip
COMMANDS = (
    ["status", "{sent}"], ["status", "{sent}", "--json"], ["report", "{sent}"],
    ["report", "{sent}", "--format", "json"], ["report", "{sent}", "--format", "md"],
    ["report", "{sent}", "--html", "{out}/page.html"],
    ["compare", "{sent}", "{other}"], ["ensemble", "{sent}"], ["ensemble", "{sent}", "--format", "json"],
    ["export", "{sent}", "--to", "csv", "--out", "{out}/tables"],
)  # fmt: skip


def outcome(spec: RunSpec) -> dict[str, Any] | None:
    made = of_every_kind(spec)
    if made is not None and "history" in made:
        made["history"] = [*made["history"], {"step": 2, "val/loss": 0.25}]
    return made


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in paths(inner, (*at, key)))]


def changed(value: Any, rng: random.Random) -> Any:
    """The JSON value with one place of it replaced, left out or doubled."""
    path = rng.choice(paths(value)[1:] or [()])
    if not path:
        return rng.choice(ODD)
    there = value
    for key in path[:-1]:
        there = there[key]
    how = rng.randrange(4)
    if how == 0:
        del there[path[-1]]
    elif how == 1 and isinstance(there, list):
        there.append(there[path[-1]])
    elif how == 2 and isinstance(there, dict):
        there[rng.choice(["x", "../y", "\x1b", ""])] = there.pop(path[-1])
    else:
        there[path[-1]] = rng.choice(ODD)
    return value


def sealed(body: Any) -> str:
    if isinstance(body, dict):
        body.pop("checksum", None)
        body = {**body, "checksum": content_id(body)}
    return json.dumps(body)


def mutate(path: Path, rng: random.Random) -> None:
    """One change of a file: of its structure, of its bytes, or of what it is."""
    how = rng.randrange(10)
    data = path.read_bytes()
    if path.suffix == ".json" and how < 8:
        body = json.loads(data)
        for _ in range(rng.choice([1, 1, 1, 3])):
            body = changed(body, rng)
        text = sealed(body)
        path.write_text(text, errors="surrogatepass")
    elif how < 6 and data:
        spot = rng.randrange(len(data))
        path.write_bytes(data[:spot] + rng.randbytes(rng.choice([1, 1, 4, 64])) + data[spot + 1 :])
    elif how < 8:
        path.write_bytes(data[: rng.randrange(len(data) + 1)])
    else:
        path.unlink()
        (os.mkfifo if how == 8 else Path.mkdir)(path)


def resealed(root: Path) -> None:
    """Records made to answer for what lies beside them now, as a stranger's would."""
    for path in root.rglob("record.json"):
        try:
            body = json.loads(path.read_text())
            folder = path.parent / f"attempt-{body['attempt']}"
            for name in body["artifacts"]:
                file = folder / name
                if file.is_file():
                    body["artifacts"][name] = {"sha256": atomic.file_digest(file), "bytes": file.stat().st_size}
            path.write_text(sealed(body))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def listing(root: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in root.rglob("*"))
    return {str(path.relative_to(root)): (path.lstat().st_mode, path.lstat().st_size) for path in found}


def said(words: list[str], folder: Path) -> str:
    """What is wrong with a command's end, in a process of its own; nothing where all is well."""
    output = folder.with_name("output.txt")
    child = os.fork()
    if child == 0:
        code = 99
        try:
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(folder)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            sys.stdout, sys.stderr = (os.fdopen(fd, "w", errors="backslashreplace") for fd in (1, 2))
            code = main(words)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace")
    if code in (0, 1, 2, 3, 4) and "Traceback" not in text and "MemoryError" not in text and "Error:" not in text:
        return ""
    return f"exit {code}: {text[-2500:]}"


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("valid")
    for name in ("sent", "other"):
        sweep_of(root / name, outcome, seeds=range(6), variants=("",) if name == "other" else ("lr-1", "lr-2"))
    for path in (root / "sent").rglob("lock"):
        path.unlink()
    return root


def case(valid: Path, tmp_path: Path, number: int) -> str:
    rng = random.Random(number)
    here = tmp_path / "here"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(valid, here)
    (here / "out").mkdir()
    marker = tmp_path / "ran"
    for name in ("torch", "numpy", "json", "safetensors", "pandas"):
        (here / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    files = sorted(path for path in (here / "sent").rglob("*") if path.is_file())
    first = [here / "sent" / "sweep.json"] * (len(files) // 3)
    path = rng.choice(files + first)
    mutate(path, rng)
    if rng.random() < 0.8:
        resealed(here / "sent")
    words = rng.choice(COMMANDS)
    before = listing(tmp_path), listing(here / "other")
    wrong = said([word.format(sent="sent", other="other", out="out") for word in words], here)
    after = listing(here / "other")
    if after != before[1] or marker.exists():
        wrong += " something outside was changed, or run"
    new = {name for name in listing(tmp_path) if name not in before[0]} - {"output.txt"}
    if strays := [name for name in new if not name.startswith("here/out/")]:
        wrong += f" made {strays}"
    return f"{number}: {path.relative_to(here)} {words}: {wrong}" if wrong else ""


def rounds(valid: Path, tmp_path: Path, numbers: range) -> list[str]:
    return [wrong for number in numbers if (wrong := case(valid, tmp_path, number))]


def test_a_directory_that_is_as_it_was_made_is_read(valid: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(valid, here)
    (here / "out").mkdir()
    for words in COMMANDS:
        assert said([w.format(sent="sent", other="other", out="out") for w in words], here) == ""


@pytest.mark.parametrize(
    "harm", [lambda: 1 / 0, lambda: time.sleep(60), lambda: bytearray(3 << 30), lambda: os.kill(os.getpid(), 9)],
    ids=["a traceback", "a hang", "memory", "a crash"],
)  # fmt: skip
def test_what_is_looked_for_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object]
) -> None:
    monkeypatch.setattr(f"{__name__}.main", lambda words: harm() and 0)
    monkeypatch.setattr(f"{__name__}.SECONDS", 2)
    (tmp_path / "here").mkdir()
    assert said(["status"], tmp_path / "here")


def test_mutated_directories_are_read_or_refused(valid: Path, tmp_path: Path) -> None:
    assert rounds(valid, tmp_path, range(40)) == []


@pytest.mark.slow
def test_thousands_of_mutated_directories_are_read_or_refused(valid: Path, tmp_path: Path) -> None:
    assert rounds(valid, tmp_path, range(40, 5000)) == []
