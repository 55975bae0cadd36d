"""The commands `sweep` and `ml-train`: parse, call one function, print, set the exit code."""

from __future__ import annotations

import atexit
import os
import sys


def sweep() -> None:
    """Entry point of `sweep`."""
    _command(sys.argv[1:])


def ml_train() -> None:
    """Entry point of `ml-train`."""
    _command(["ml-train", *sys.argv[1:]], program="ml-train")


def _command(arguments: list[str], program: str = "sweep") -> None:
    ended: list[int] = []
    atexit.register(_leave, ended)  # the first to be registered is the last to be called
    from sweep.cli.app import main

    ended.append(main(arguments, program=program))
    sys.exit(ended[0])


def _leave(ended: list[int]) -> None:
    """End the process now: to take Ray, pandas and torch apart piece by piece takes half a second."""
    if not ended:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter's own end has an exit code for that
    os._exit(ended[0])
