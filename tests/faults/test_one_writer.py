"""Whatever is written into a run directory is written by sweep/store/atomic.py, appends too.

There faults are injected at every call (test_exactly_once.py); here a disk takes half of a row.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import kit
import pytest
from kit import Nursery
from victims import files_end_at

import sweep as package
from sweep.store import Store, atomic, history

ROOT = Path(package.__file__).parent
WRITER = "store/atomic.py"

ALLOWED = {
    ("cli/output.py", "os.open"): "/dev/null, in place of a standard stream that is closed",
    ("cli/output.py", "BufferedWriter"): "a standard stream",
    ("cli/init.py", "write_text"): "sweep init: a user's new folder",
    ("engine/idle_agent.py", "open"): "the folder of a Ray that starts, in a process of its own",
    ("engine/idle_agent.py", "os.replace"): "the same",
    ("checkpoint.py", "torch.save"): "into memory, on its way to the writer",
    ("checkpoint.py", "np.save"): "the same",
    ("ensemble/predict.py", "open_memmap"): "beside the user's --out, which appears whole or not at all",
    ("ensemble/predict.py", "ZipFile"): "the same",
    ("ensemble/predict.py", "np.save"): "the same",
    ("ensemble/predict.py", "os.replace"): "the same",
    ("ensemble/program.py", "torch.export.save"): "beside the user's file, which is checked before it has its name",
    ("ensemble/program.py", "torch.onnx.export"): "the same",
    ("ensemble/program.py", "os.replace"): "the same",
    ("export.py", "EventFileWriter"): "the user's --out",
    ("integrations/lightning.py", "save_checkpoint"): "Lightning's own; what counts is the checkpoint of its bytes",
    ("forkserver/child.py", "faulthandler.enable"): "the log that the writer opened, as a process's stderr",
    ("forkserver/child.py", "faulthandler.register"): "the same",
    ("forkserver/child.py", "open"): "descriptors that are open: that log, and the pipe of an answer",
    ("forkserver/child.py", "os.write"): "the pipe of an answer",
    ("archive.py", "ZipFile"): "into a stream of the writer",
    ("archive.py", "open"): "the same",
    ("archive.py", "write_text"): "a scratch folder of sweep pack",
    ("worker/own_folder.py", "copy2"): "the folder of a program's own, before the record answers for it",
    ("worker/own_folder.py", "symlink_to"): "the same",
    ("report/drawing.py", "open"): "the user's folder of figures",
    ("report/drawing.py", "savefig"): "the same",
    ("store/archive.py", "open"): "a folder of the cache, which gets its name when it is whole",
    ("store/archive.py", "rename"): "the same",
    ("store/attempt.py", "os.replace"): "a program's own files, before the record answers for them",
    ("store/predictions.py", "ZipFile"): "into a stream of the writer",
    ("store/remote.py", "rename"): "a whole copy of a directory that has gone from its URL",
    ("target/trust.py", "os.open"): "the own state of a user: which recipes they have called",
    ("target/trust.py", "os.write"): "the same",
    ("verify/probes.py", "open"): "a scratch folder of sweep verify",
    ("verify/locate.py", "open"): "the same",
    ("verify/process.py", "open"): "the same",
    ("verify/process.py", "pickle.dump"): "a pipe to a child",
    ("worker/train.py", "faulthandler.dump_traceback"): "a file of the writer",
    ("worker/train.py", "faulthandler.dump_traceback_later"): "C, where no Python runs, into a file of the writer",
}

OPENS = ("open", "fdopen", "FileIO", "ZipFile", "TarFile", "memmap", "open_memmap")
WRITES = re.compile(
    r"""(?:os|shutil)\.(?:write|pwrite|ftruncate|truncate|replace|rename|renames|link|symlink|copy2?|copyfile|copytree|move|mkfifo)
    |(?:.*\.)?(?:write_text|write_bytes|touch|rename|symlink_to|hardlink_to|tofile|savefig|save_checkpoint)
    |(?:.*\.)?(?:save_file|save_pretrained|\w*Writer|NamedTemporaryFile|mkstemp|dump_traceback\w*)
    |(?:.*\.)?to_(?:csv|parquet|feather|hdf|excel|pickle)
    |(?:np|numpy|torch|torch\.\w+|onnx)\.save\w*|torch\.onnx\.export
    |(?:json|pickle|cloudpickle|marshal)\.dump|faulthandler\.(?:enable|register)""",
    re.VERBOSE,
)


def writes(source: str) -> set[str]:
    """The calls by which a source file could write to a disk by itself, by their last names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        given = [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]
        if called == "os.open" or (last in OPENS and any(map(_for_writing, given))):
            found.add("os.open" if called == "os.open" else last)
        elif WRITES.fullmatch(called) and not called.startswith("atomic."):
            found.add(called if called.startswith(("os.", "np.", "torch.", "faulthandler.", "pickle.")) else last)
    return found


def _for_writing(mode: ast.expr) -> bool:
    return isinstance(mode, ast.Constant) and re.fullmatch(r"[rbt]*[wax+][rwxabt+]*", str(mode.value)) is not None


def test_nothing_else_opens_a_file_of_a_run_directory_for_writing() -> None:
    found = {
        (name, call)
        for path in sorted(ROOT.rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) != WRITER
        for call in writes(path.read_text(encoding="utf-8"))
    }
    assert found - set(ALLOWED) == set(), "write it with sweep.store.atomic"
    assert set(ALLOWED) - found == set(), "no longer there"


def test_the_writer_itself_would_be_found() -> None:
    assert writes((ROOT / WRITER).read_text(encoding="utf-8")) >= {"os.open", "os.write", "os.replace", "os.link"}


@pytest.mark.parametrize(
    "line",
    [
        'open(path, "ab")', 'open(path, mode="w")', 'path.open("a")', '(path / "x").open("r+b")',
        "os.open(path, flags)", "path.touch()", "store.stop_file(launch).touch()",
        'path.write_text("x")', "np.savez(path, x=x)",
        "torch.save(body, path)", "shutil.copyfile(a, b)", "os.ftruncate(fd, 0)", "os.pwrite(fd, data, 0)",
        "faulthandler.dump_traceback(log)", "json.dump(value, stream)", 'zipfile.ZipFile(path, "w")', "a.rename(b)",
    ],
)  # fmt: skip
def test_the_search_for_writes_finds_each_of_them(line: str) -> None:
    assert writes(line)


@pytest.mark.parametrize("line", ['open(path, "rb")', "path.open()", "Store.open(path)", "atomic.write(path, b'w')"])
def test_the_search_for_writes_passes_over_what_reads(line: str) -> None:
    assert not writes(line)


def test_a_row_that_the_disk_took_half_of_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with atomic.Appender(path) as stream:
        stream.write(b'{"step": 1}\n')
        with files_end_at(17), pytest.raises(OSError, match="File too large"):
            stream.write(b'{"step": 2}\n')
        assert history.read(path) == [{"step": 1}]
        stream.write(b'{"step": 3}\n')
    assert history.read(path) == [{"step": 1}, {"step": 3}]


DIES = """
import os, signal, sys
from pathlib import Path
from sweep.store import atomic

def dies(fd, data):
    os.write(fd, data[:6])
    os.kill(os.getpid(), signal.SIGKILL)

stream = atomic.Appender(Path(sys.argv[1]))
stream.write(b'{"step": 1}\\n')
atomic._write = dies
stream.write(b'{"step": 2}\\n')
"""


def test_the_half_row_of_a_writer_that_died_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    subprocess.run([sys.executable, "-c", DIES, str(path)], env=kit.environment(), check=False)
    assert path.read_bytes() == b'{"step": 1}\n{"step'
    assert history.read(path) == [{"step": 1}]


CONFIG = "name: room\ntrain: victims:runs_out_of_room\nparams: {mark: MARK, goes_on: GOES_ON}\n"
RUN = ["run", "room.yaml", "--engine", "inline", "--seeds", "1,2", "--out", "runs"]


def steps_of(path: Path) -> dict[int, list[int]]:
    store = Store.open(path)
    return {member.seed: [row["step"] for row in store.history(member)] for member in store.scan()}


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_case_33_a_disk_that_fills_up_within_a_row_is_named_and_the_same_command_goes_on(
    nursery: Nursery, tmp_path: Path, epoch: int
) -> None:
    text = CONFIG.replace("MARK", str(tmp_path / "mark")).replace("GOES_ON", f"false, epoch: {epoch}")
    (tmp_path / "room.yaml").write_text(text)
    first = nursery.run(RUN, tmp_path)
    assert first.code == 1, first.output
    assert "seed1: not recorded ([Errno 27] File too large)" in first.output
    assert "run the same command again" in first.output
    assert "Traceback" not in first.output
    assert steps_of(tmp_path / "runs") == {1: list(range(1, epoch)), 2: []}
    assert not next((tmp_path / "runs").rglob("history.jsonl")).read_bytes().rpartition(b"\n")[2]
    second = nursery.run(RUN, tmp_path)
    assert second.code == 0, second.output
    assert steps_of(tmp_path / "runs") == {1: [1, 2, 3, 4, 5], 2: [1, 2, 3, 4, 5]}


def test_training_that_goes_on_without_a_row_lacks_that_row_alone(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "room.yaml").write_text(CONFIG.replace("MARK", str(tmp_path / "mark")).replace("GOES_ON", "true"))
    trial = nursery.run(RUN, tmp_path)
    assert trial.code == 0, trial.output
    assert steps_of(tmp_path / "runs") == {1: [1, 2, 4, 5], 2: [1, 2, 3, 4, 5]}
