"""The names of all files and folders in a run directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sweep.errors import StoreError

MANIFEST = "sweep.json"
NO_SWEEP = f"there is no sweep here ({MANIFEST} is missing)"
LOCK = "lock"
MANIFEST_LOCK = "sweep.json.lock"
STOP = "stop-"  # stop-<nonce of the launch>: its runs end at the next checkpoint
TOKEN = "launch-"  # launch-<nonce>: a worker that sees it shares this directory with the launch
MEMBERS = "members"
RECORD = "record.json"
CORRUPT = "record.corrupt-"
ATTEMPT = "attempt-"
ABOUT = "attempt.json"
HISTORY = "history.jsonl"
HISTORY_AGAIN = "history-{id}.jsonl"  # of a later reading of a command's metrics
READ_BEFORE = "record.read-"  # a record that was replaced by another reading of the same attempt
PREDICTIONS = "predictions-{split}.npz"
SCORES = "scores-{name}.npz"
MODEL = "model.safetensors"
MODEL_ABOUT = "model.json"
OUTSIDE = "outside_state_dict"  # of model.json: the digests of tensors that the file of weights lacks
CHECKPOINT = "checkpoint-"
WORK = "dir"  # the folder of a command while it runs, the same for all attempts at a run
LOG = "log.txt"
STDOUT, STDERR = "raw-stdout.txt", "raw-stderr.txt"  # of a command, unchanged
EVENTS = "events.jsonl"


_NONCE = re.compile(r"[0-9a-f]{8}", re.ASCII)
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)


def is_nonce(text: object) -> bool:
    """Return whether a text has the form of the random part of our names."""
    return isinstance(text, str) and _NONCE.fullmatch(text) is not None


def is_folder(text: object) -> bool:
    """Return whether a text can be the folder of a task or a variant. It is empty if there is only one."""
    return isinstance(text, str) and (not text or _FOLDER.fullmatch(text) is not None)


def is_ours(name: str, *prefixes: str) -> bool:
    """Return whether a name is one of the prefixes followed by a random part, and nothing else."""
    return any(name.startswith(each) and is_nonce(name.removeprefix(each)) for each in prefixes)


def filled(pattern: str, name: str) -> str | None:
    """Return the part of a file name that fills the {part} of a pattern, or None if the name does not fit."""
    head, tail = re.split(r"\{\w+\}", pattern)
    return name[len(head) : -len(tail)] if name.startswith(head) and name.endswith(tail) else None


def inside(root: Path, path: Path) -> Path:
    """Return `path`.

    Raises: StoreError if links or dots lead it out of the run directory.
    """
    # As text, because pathlib takes three times as long, for each file of each run.
    top, whole = os.fspath(root), os.fspath(path)
    if whole.startswith(top + os.sep) and _plain(top, whole[len(top) + 1 :]):
        return path
    whole, top = os.path.realpath(path), os.path.realpath(root)
    if whole != top and not whole.startswith(top.rstrip(os.sep) + os.sep):
        raise StoreError("leads out of the run directory", where=str(path))
    return path


def _plain(at: str, below: str) -> bool:
    """Return whether a path leads down from a folder without links and dots. It need not exist."""
    for part in below.split(os.sep):
        at = f"{at}{os.sep}{part}"
        if part == ".." or os.path.islink(at):
            return False
    return True
