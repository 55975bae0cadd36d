"""What a config names: found, and its parameters checked against its signature."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from sweep.config import explain
from sweep.errors import ConfigError, TargetError
from sweep.plan import Json, Target, canonical
from sweep.source import built_in, shadowed, shadowed_imports, source_digest

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


def find(reference: str) -> Callable[..., Any]:
    """Import `module:name`, looking in the current folder as well.

    Raises: TargetError naming the module or the name, with the user's part of the traceback.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise TargetError(f"{reference!r} is not of the form module:function", hint="e.g. train: my_script:train")
    here = os.getcwd()
    if not built_in(reference) and here not in sys.path:  # nothing of a working folder is imported without need
        sys.path.insert(0, here)
    taken = None if built_in(reference) else shadowed(module_name.partition(".")[0], Path(here))
    if taken:
        raise _shadowed(*taken, reference)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise TargetError(
                f"no module {error.name!r}", where=reference,
                hint=f"looked in {here} and the installed packages",
            ) from None  # fmt: skip
        raise TargetError(f"importing it failed\n{user_traceback(error)}", where=reference) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise TargetError(f"importing it failed\n{user_traceback(error)}", where=reference) from error
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            close = _nearest(part, [n for n in dir(found) if callable(getattr(found, n, None))])
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
    """The traceback from the user's first frame on, causes included: what lies above it is ours."""
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    while link is not None:
        start = next((i for i, frame in enumerate(link.stack) if _users(frame)), len(link.stack))
        link.stack = traceback.StackSummary.from_list(link.stack[start:])
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(whole.format()).rstrip()


def _users(frame: traceback.FrameSummary) -> bool:
    own = str(Path(__file__).parent)
    return not frame.filename.startswith((own, "<frozen")) and "importlib" not in frame.filename


def _nearest(name: str, names: list[str]) -> str | None:
    from difflib import get_close_matches

    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else None


def _fields(function: Callable[..., Any], *, skip: int) -> tuple[dict[str, Any], bool]:
    """Pydantic fields of a signature without its first `skip` parameters, and whether it takes any others."""
    try:
        hints = get_type_hints(function, include_extras=True)  # bounds stand in Annotated
    except Exception:  # annotations may name what exists only for a type checker: then they check nothing
        hints = {}
    fields: dict[str, Any] = {}
    open_ended = False
    for parameter in list(inspect.signature(function).parameters.values())[skip:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields, open_ended


def _model(function: Callable[..., Any], *, skip: int) -> type[BaseModel]:
    fields, open_ended = _fields(function, skip=skip)
    config = ConfigDict(
        extra="allow" if open_ended else "forbid", arbitrary_types_allowed=True, protected_namespaces=(),
        allow_inf_nan=False, strict=True, populate_by_name=False,
    )  # fmt: skip
    # Parameters may have any name, pydantic's attributes included: an alias keeps the two apart.
    aliased: dict[str, Any] = {
        f"p_{name}": (kind, Field(default, alias=name)) for name, (kind, default) in fields.items()
    }
    return create_model("params", __config__=config, **aliased)


def check_params(
    function: Callable[..., Any], params: Mapping[str, Json], *, kind: str, where: str = "params"
) -> dict[str, Json]:
    """The parameters with defaults filled in, as plain JSON.

    Raises: ConfigError with every problem, each at its path.
    """
    try:
        text = canonical(dict(params))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a value is not plain JSON ({error})", where=where) from None
    expected = _model(function, skip=_skip(kind))
    try:
        # Through JSON: its strict mode takes a list for a tuple, and still no text for a number.
        model = expected.model_validate_json(text)
    except ValidationError as error:
        raise explain(error, where=where, names=_names(function, kind), model=expected) from None
    try:
        plain: dict[str, Json] = model.model_dump(mode="json", by_alias=True, warnings=False)
        canonical(plain)
    except Exception as error:
        raise ConfigError(f"a default cannot be written as JSON ({error})", where=where) from error
    return plain


def misread(function: Callable[..., Any], params: Mapping[str, Json], *, kind: str) -> list[tuple[str | int, ...]]:
    """Return the paths of values that a signature refuses because they are no text."""
    try:
        _model(function, skip=_skip(kind)).model_validate_json(canonical(dict(params)))
    except ValidationError as error:
        wanted = ("string_type", "literal_error")
        return [tuple(detail["loc"]) for detail in error.errors(include_url=False) if detail["type"] in wanted]
    return []


def _skip(kind: str) -> int:
    return 1 if kind == "function" else 0  # its first parameter is the run


def _names(function: Callable[..., Any], kind: str) -> list[str]:
    return list(_fields(function, skip=_skip(kind))[0])


def bind(function: Callable[..., Any], params: Mapping[str, Json], *, kind: str) -> dict[str, Any]:
    """Keyword arguments for `function` out of a spec's params, as the types its signature names."""
    model = _model(function, skip=_skip(kind))
    checked = model.model_validate_json(canonical(dict(params)))
    bound = {info.alias or name: getattr(checked, name) for name, info in model.model_fields.items()}
    return {**bound, **(checked.model_extra or {})}


def resolve(kind: str, reference: str) -> tuple[Target, Callable[..., Any]]:
    """The target named by a config, and what it names."""
    function = find(reference)
    if taken := shadowed_imports(function):
        raise _shadowed(*taken, reference)
    if kind == "function":
        require_run(function, reference)
    return Target(kind=kind, reference=reference, digest=source_digest(function)), function  # type: ignore[arg-type]


def require_run(function: Callable[..., Any], reference: str) -> None:
    """Refuse a training function that does not take the run first. Raises: TargetError."""
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
            f"its first parameter is {first.name!r}, but a training function is handed the run", where=reference,
            hint=f"call it in one that takes the run: def train(run, **params): return {name}(run.seed, **params)",
        )  # fmt: skip
