"""Code that a directory names, which may have come from anywhere."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable

from sweep.errors import TargetError
from sweep.plan import Target

# All that a stranger's directory may have run: anything else in this package, called with a stranger's
# parameters, could write files.
BUILT_IN_RECIPES = ("sweep.train.recipes:classifier", "sweep.train.recipes:regressor")


def harmless(target: Target) -> bool:
    """Whether a target that came as data may run unasked: the built-in recipes, and nothing else."""
    return target.kind == "recipe" and target.reference in BUILT_IN_RECIPES


def require_trust(target: Target, trust: bool, say: Callable[[str], None]) -> None:
    """Raises: TargetError when what a directory names is no built-in recipe and is not trusted."""
    if harmless(target):
        return
    if target.kind == "adopted":
        raise TargetError(
            "its runs were adopted, not run here: nothing is known of how, so nothing can be trained again",
            hint="what is known of them: sweep report DIRECTORY",
        )  # fmt: skip
    what = shlex.join(target.argv) if target.kind == "command" else target.reference
    verb = "run the command" if target.kind == "command" else "import and call"
    say(f"this directory asks to {verb} {what!r} in {os.getcwd()} (source sha256 {target.digest[:16] or 'unknown'})")
    if target.kind == "function" and target.reference.startswith("__main__:"):
        raise TargetError(
            "it was defined in a notebook or script, not in a module", where=target.reference,
            hint="its text stands in sweep.json, to be read; to run it, move it into a module and train again",
        )  # fmt: skip
    if not trust:
        raise TargetError(
            "it is not part of sweep, so it does not run unasked", where=what,
            hint="look at it, then say so with --trust",
        )  # fmt: skip
