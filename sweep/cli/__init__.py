"""The commands `sweep` and `ml-train`: parse, call one function, print, set the exit code."""

from __future__ import annotations

import atexit
import os
import sys


def sweep() -> None:
    """Run `sweep` with the words of the command line, and end this process."""
    _command(sys.argv[1:])


def ml_train() -> None:
    """Run `ml-train` with the words of the command line, and end this process."""
    _command(["ml-train", *sys.argv[1:]], program="ml-train")


def _command(arguments: list[str], program: str = "sweep") -> None:
    ended: list[int] = []
    atexit.register(_leave, ended)  # registered first, so called last
    from sweep.cli.app import main
    from sweep.cli.output import close_streams, open_streams

    open_streams()
    code = main(arguments, program=program)
    ended.append(code or int(close_streams()))  # output lost to a full disk is an error
    sys.exit(ended[0])


def _leave(ended: list[int]) -> None:
    """End the process now, because the usual exit of Ray, pandas and torch takes half a second."""
    if ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])
