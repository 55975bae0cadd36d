"""The names of everything in a run directory, in one place."""

from __future__ import annotations

import os
from pathlib import Path

from sweep.errors import StoreError

MANIFEST = "sweep.json"
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
HISTORY_AGAIN = "history-{id}.jsonl"  # as a later reading of a command's metrics found it
READ_BEFORE = "record.read-"  # a record that was replaced by another reading of the same attempt
PREDICTIONS = "predictions-{split}.npz"
MODEL = "model.safetensors"
MODEL_ABOUT = "model.json"
CHECKPOINT = "checkpoint-"
LOG = "log.txt"
STDOUT, STDERR = "raw-stdout.txt", "raw-stderr.txt"  # of a command, as it came
EVENTS = "events.jsonl"


def inside(root: Path, path: Path) -> Path:
    """`path`, refused when links or dots lead it out of the run directory.

    Raises: StoreError.
    """
    # As text: pathlib does the same in thrice the time, once for each file of each run.
    whole, top = os.path.realpath(path), os.path.realpath(root)
    if whole != top and not whole.startswith(top.rstrip(os.sep) + os.sep):
        raise StoreError("leads out of the run directory", where=str(path))
    return path
