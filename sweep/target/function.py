"""The function or recipe that a config names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.config.explain import nearest
from sweep.errors import ConfigError, SweepError, TargetError
from sweep.plan import Target
from sweep.target.imports import shadowed
from sweep.target.source import built_in, shadowed_imports, source_digest


def find(reference: str) -> Callable[..., Any]:
    """Import `module:name`, also from the current folder.

    Raises: TargetError naming the module or the name, with the user's part of the traceback.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise TargetError(
            f"{reference!r} is not of the form module:function", hint="write for example train: my_script:train"
        )
    here = os.getcwd()
    if not built_in(reference) and here not in sys.path:  # do not import from the working folder without need
        sys.path.insert(0, here)
    taken = None if built_in(reference) else shadowed(module_name.partition(".")[0], Path(here))
    if taken:
        raise _shadowed(*taken, reference)
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            hint = f"check its name; sweep looked in {here} and in the installed packages"
            raise TargetError(f"there is no module {missing!r}", where=reference, hint=hint) from None
        raise TargetError(f"importing it failed\n{user_traceback(error)}", where=reference) from error
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            close = nearest(part, [n for n in dir(found) if callable(getattr(found, n, None))])
            raise TargetError(f"{module_name} has no {part!r}", where=reference, hint=close) from None
    if not callable(found):
        raise TargetError(f"it is a {type(found).__name__}, not a function", where=reference)
    return found  # type: ignore[no-any-return]


def _shadowed(mine: Path, other: str, reference: str) -> TargetError:
    name = mine.parent.name if mine.name == "__init__.py" else mine.stem
    return TargetError(
        f"the name {name!r} is already taken: Python or sweep imports {other}, not {mine}", where=reference,
        hint=f"rename {mine}",
    )  # fmt: skip


def user_traceback(error: BaseException) -> str:
    """Return the traceback from the user's first frame on, with its causes. The frames above it are ours."""
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    while link is not None:
        start = next((i for i, frame in enumerate(link.stack) if _users(frame)), len(link.stack))
        link.stack = traceback.StackSummary.from_list(link.stack[start:])
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(whole.format()).rstrip()


def call(part: Callable[..., Any], *given: Any, where: str, failure: str) -> Any:
    """Return the result of calling a part of the user's code.

    Raises: ConfigError below `where`. For any other exception, it has `failure` and the user's traceback.
    """
    try:
        return part(*given)
    except SweepError as error:
        place = f"{where}: {error.where}" if error.where else where
        raise ConfigError(error.what, where=place, hint=error.hint) from None
    except Exception as error:
        raise ConfigError(f"{failure}\n{user_traceback(error)}", where=where) from error


def _users(frame: traceback.FrameSummary) -> bool:
    own = str(Path(__file__).parents[1])
    return not frame.filename.startswith((own, "<frozen")) and "importlib" not in frame.filename


def resolve(kind: str, reference: str) -> tuple[Target, Callable[..., Any]]:
    """Return the target that a config names, and the function it refers to."""
    function = find(reference)
    if taken := shadowed_imports(function):
        raise _shadowed(*taken, reference)
    if kind == "function":
        require_run(function, reference)
    return Target(kind=kind, reference=reference, digest=source_digest(function)), function  # type: ignore[arg-type]


def require_run(function: Callable[..., Any], reference: str) -> None:
    """Refuse a training function whose first parameter is not the run. Raises: TargetError."""
    leading = list(inspect.signature(function).parameters.values())
    first = leading[0] if leading else None
    if first is None or first.kind not in (first.POSITIONAL_OR_KEYWORD, first.POSITIONAL_ONLY):
        raise TargetError(
            "its first parameter must take the run", where=reference,
            hint="write it as: def train(run, *, lr=1e-3): ...",
        )  # fmt: skip
    if re.fullmatch(r"(random_?|rng_?)?seed|random_state|rng", first.name):
        name = getattr(function, "__name__", "train").strip("<>")
        raise TargetError(
            f"its first parameter is {first.name!r}, but a training function receives the run", where=reference,
            hint=f"wrap it in one that takes the run: def of_run(run, **params): return {name}(run.seed, **params)",
        )  # fmt: skip
