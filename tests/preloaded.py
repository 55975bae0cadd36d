"""Commands of `sweep` in processes that are forked from one that has loaded what they import: seconds less for each."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
LOADED = ("sweep.cli.app", "sweep.results", "sweep.worker.here", "pandas", "scipy.special", "torch._dynamo")


def run(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `sweep` or `ml-train` in `folder`, as a shell would, with an empty standard input."""
    SERVER.set_forkserver_preload([*LOADED])
    with TemporaryDirectory() as room:
        out, err = Path(room, "out"), Path(room, "err")
        child = SERVER.Process(target=_child, args=(words, folder, dict(environment), out, err))
        child.start()
        child.join()
        return subprocess.CompletedProcess(words, child.exitcode or 0, out.read_text("utf-8"), err.read_text("utf-8"))


def _child(words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    here = Path(__file__).parent
    sys.path[:] = [each for each in sys.path if here not in (Path(each), *Path(each).parents)]
    sys.argv = [*words]
    from sweep import cli

    try:
        (cli.sweep if words[0] == "sweep" else cli.ml_train)()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
