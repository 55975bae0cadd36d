"""The commands `sweep` and `ml-train`: parse, call one function, print, set the exit code."""

from __future__ import annotations

import sys


def sweep() -> None:
    """Entry point of `sweep`."""
    from sweep.cli.app import main

    sys.exit(main(sys.argv[1:]))


def ml_train() -> None:
    """Entry point of `ml-train`."""
    from sweep.cli.app import main

    sys.exit(main(["ml-train", *sys.argv[1:]], program="ml-train"))
