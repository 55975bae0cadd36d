"""Trust in the code that a directory names, because a directory may come from anywhere."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

from sweep.errors import TargetError
from sweep.plan import Json, Target, content_id
from sweep.target import imports

# The only code that a directory from elsewhere may run: anything else in this package, called with parameters from
# elsewhere, could write files.
BUILT_IN_RECIPES = ("sweep.train.recipes:classifier", "sweep.train.recipes:regressor")


def harmless(target: Target) -> bool:
    """Return whether a target that came as data may run without consent: only the built-in recipes may."""
    return target.kind == "recipe" and target.reference in BUILT_IN_RECIPES


def remember(target: Target, params: Iterable[Mapping[str, Json]]) -> None:
    """Record in this user's own files that they called a recipe with these parameters from this folder."""
    if target.kind != "recipe" or harmless(target):
        return
    known = _remembered()
    new = [call for each in params if (call := _call(target, each)) not in known]
    with suppress(OSError):  # without a home folder, --trust is needed each time
        _state().parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(_state(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(opened, "".join(f"{call}\n" for call in dict.fromkeys(new)).encode())
        os.close(opened)


def called_before(target: Target, params: Mapping[str, Json]) -> bool:
    """Return whether this user has made the same call from this folder, with the same file.

    The file is read, not imported.
    """
    if target.kind != "recipe":
        return False
    here, module = Path.cwd(), target.reference.partition(":")[0]
    path = here.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file() or _call(target, params) not in _remembered():
        return False
    paths = sys.path if os.getcwd() in sys.path else [os.getcwd(), *sys.path]
    top = PathFinder.find_spec(module.partition(".")[0], paths)
    inside = top is not None and top.origin is not None and Path(top.origin).resolve().is_relative_to(here.resolve())
    return inside and imports.digest(path.resolve(), here.resolve()) == target.digest


def _call(target: Target, params: Mapping[str, Json]) -> str:
    folder = os.path.realpath(os.getcwd())
    return content_id({"folder": folder, "reference": target.reference, "digest": target.digest, "params": params})


def _remembered() -> set[str]:
    try:
        return set(_state().read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return set()


def _state() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()) / "sweep" / "called"


def require_trust(
    target: Target, trust: bool, say: Callable[[str], None], params: Mapping[str, Json] | None = None
) -> None:
    """Refuse to run what a directory names unless it is a built-in recipe or is trusted. Raises: TargetError.

    params: of a run, as its record holds them. A call that this user has made before needs no trust (`called_before`).
    """
    if harmless(target) or (params is not None and called_before(target, params)):
        return
    if target.kind == "adopted":
        raise TargetError(
            "its runs were adopted, and it is not recorded how to train them",
            hint="to see what is recorded: sweep report DIRECTORY",
        )  # fmt: skip
    what = shlex.join(target.argv) if target.kind == "command" else target.reference
    verb = "run the command" if target.kind == "command" else "import and call"
    say(f"this directory asks to {verb} {what!r} in {os.getcwd()} (source sha256 {target.digest[:16] or 'unknown'})")
    if target.kind == "function" and target.reference.startswith("__main__:"):
        raise TargetError(
            "it was defined in a notebook or script, not in a module", where=target.reference,
            hint="read its text in sweep.json; to run it, move it into a module and train again",
        )  # fmt: skip
    if not trust:
        raise TargetError(
            "it is not part of sweep, so it does not run without your consent", where=what,
            hint="read it, then allow it with --trust",
        )  # fmt: skip
