"""Rules that pydantic's types cannot express: one function per key turns the written value into its meaning."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar

from pydantic_core import PydanticCustomError

from sweep.config.pattern import expand
from sweep.errors import ConfigError, short, show
from sweep.nested import assign, flatten
from sweep.seeds import parse_seed, parse_seeds

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # on Windows, these names are devices
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
BEST = re.compile(r"best\(\s*([^()\s]+)\s*\)")
_DURATION = re.compile("".join(rf"(?:([0-9]+\.?[0-9]*|\.[0-9]+){unit})?" for unit in ("d", "h", "m(?:in)?", "s")))
_HALF_WIDTH = re.compile(r"(\S+)\s*(?:±|\+-|\+/-)\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)")
_ORDER = re.compile(r"(\S+):\s+(\S.*?)\s*[<>]\s*(\S.*)")


def wrong(what: str, hint: str | None = None) -> NoReturn:
    """Refuse a value from inside a validator, with a hint."""
    raise PydanticCustomError("refused", "{what}", {"what": what, "hint": hint})


def _seeds(parse: Callable[[Any, str], T], raw: Any) -> T:
    try:
        return parse(raw, "")
    except ConfigError as problem:
        wrong(f"{problem.where}: {problem.what}" if problem.where else problem.what, problem.hint)


one_seed = partial(_seeds, parse_seed)
many_seeds = partial(_seeds, parse_seeds)


def _text(fits: Callable[[str], object], what: str, hint: str) -> Callable[[Any], Any]:
    """Return the rule for a key whose text must pass a check."""

    def rule(raw: Any) -> Any:
        if isinstance(raw, str) and not fits(raw):
            wrong(f"{show(raw)} {what}", hint)
        return raw

    return rule


name = _text(
    lambda raw: _NAME.fullmatch(raw) and not _DEVICES.fullmatch(raw) and not raw.endswith("."),
    "cannot be the name of a directory on every system",
    "use at most 100 letters, digits, . _ and -, and begin with a letter, digit or _",
)
metric = _text(
    lambda raw: raw.strip() and raw.isprintable() and len(raw) <= 200,
    "is an invalid metric name",
    "write for example test/accuracy",
)
reference = _text(
    _REFERENCE.fullmatch, "is not of the form module:name", "write for example my_script:train (the file my_script.py)"
)
# A record never points outside its directory, so `..` has no use.
file_name = _text(
    lambda raw: raw.strip() and "\0" not in raw and ".." not in PurePosixPath(raw).parts,
    "is not a file that a run can write",
    'write for example metrics.json or "{dir}/metrics.json"',
)


def command(raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            words = shlex.split(raw)
        except ValueError:
            words = ["python", "train.py", "--seed", "{seed}"]
        wrong("is a single text, but a command is a list of words", f"write [{', '.join(map(repr, words))}]")
    if isinstance(raw, list | tuple):
        if not raw:
            wrong("is empty", 'write for example [python, train.py, --seed, "{seed}"]')
        if any(isinstance(word, str) and "\0" in word for word in raw):
            wrong("contains a NUL character", "remove it: no argument of a program can contain one")
        if odd := [word for word in raw if isinstance(word, str) and re.search(r"[\ud800-\udfff]", word)]:
            wrong(f"{show(odd[0])} is not UTF-8, so a record cannot hold it", "rename that file")
        return tuple(raw)
    return raw


def as_tuple(raw: Any) -> Any:
    return tuple(raw) if isinstance(raw, list) else raw


def gpus(raw: Any) -> Any:
    if isinstance(raw, int | float) and not isinstance(raw, bool) and raw > 1 and raw != int(raw):
        wrong(f"a run cannot have {show(raw)} GPUs", "give it a share of one GPU (0.5) or whole GPUs (2)")
    return raw


def reference_pair(raw: Any) -> Any:
    pair = as_tuple(raw)
    if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair):
        if not all(math.isfinite(v) for v in pair):
            wrong(
                f"{show(list(pair))} contains a number that is not finite", "write two numbers, for example [0.1, 0.95]"
            )
        if pair[0] == pair[1]:
            wrong(f"{show(list(pair))} has two equal numbers", "write [score that becomes 0, score that becomes 1]")
    return pair


def streams(raw: Any) -> Any:
    words = raw.split(",") if isinstance(raw, str) else raw
    if isinstance(words, list | tuple):
        words = tuple(word.strip() if isinstance(word, str) else word for word in words)
        if len(set(map(str, words))) != len(words):
            wrong(f"names a stream twice: {', '.join(map(str, words))}")
    return words


def device(raw: Any) -> Any:
    if isinstance(raw, str) and (found := re.fullmatch(r"(?:cuda|gpu):?([0-9]+)", raw)):
        wrong(
            f"{show(raw)} is a particular GPU, but each run gets its GPU when it starts",
            f"write device: cuda; to use only that GPU, put CUDA_VISIBLE_DEVICES={found[1]} before the command",
        )
    return raw


def lanes(raw: Any) -> Any:
    if raw in ("auto", "off") and isinstance(raw, str):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        wrong(f"must be auto, off or a whole number of at least 1, not {show(raw)}")
    return raw


def _off_or_number(most: int, raw: Any) -> int:
    if raw in ("off", 0) and not isinstance(raw, bool):
        return 0
    if isinstance(raw, bool) or not isinstance(raw, int) or not 2 <= raw <= most:
        wrong(f"must be off or a whole number from 2 to {most}, not {show(raw)}")
    return raw


vectorize = partial(_off_or_number, 4096)
folds = partial(_off_or_number, 1000)


def duration(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    found = _DURATION.fullmatch(raw.strip())
    if found is None or not any(found.groups()):
        wrong(f"{show(raw)} is not a length of time", "write seconds, or for example 90s, 30m, 2h, 1h30m")
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


def epoch_rule(raw: Any) -> Any:
    if not isinstance(raw, str) or raw == "final":
        return raw
    found = BEST.fullmatch(raw.strip())
    if found is None:
        wrong(f"must be final or best(METRIC), not {show(raw)}", "write for example best(val/loss)")
    if "test" in re.split(r"[^a-z0-9]+", found[1].lower()):
        wrong(
            f"{show(raw)} chooses the epoch on test data, which makes the test score too good",
            "choose it on validation data, best(val/loss), or report the last epoch, final",
        )
    return f"best({found[1]})"


def checkpoint(raw: Any) -> Any:
    return {"keep": raw} if isinstance(raw, str) else raw


def until(raw: Any) -> Any:
    if isinstance(raw, str) and not (_HALF_WIDTH.fullmatch(raw.strip()) or _ORDER.fullmatch(raw.strip())):
        wrong(f"{show(raw)} is not a stopping rule", 'write "test/accuracy ± 0.005" or "test/accuracy: A > B"')
    return raw.strip() if isinstance(raw, str) else raw


def pattern(raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            groups = expand(raw)[1]
        except (re.error, RecursionError, OverflowError) as error:
            wrong(f"{show(raw)} is not a regular expression: {error}")
        if not groups:
            wrong(f"{show(raw)} names no metric", "write accuracy={number}, or name a group: (?P<accuracy>{number})")
    return raw


def cwd(raw: Any) -> Any:
    """Return the folder where runs work. YAML reads an unquoted {dir} as a mapping."""
    if raw not in (None, "{dir}", {"dir": None}):
        wrong(f"{show(raw)} would be one folder for all runs", 'write "{dir}", or leave it out')
    return None if raw is None else "{dir}"


def grid(raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        return raw
    flat: dict[str, Any] = {}
    for path, values in flatten(raw):
        _below_params(path)
        if not isinstance(values, list | tuple):
            wrong(f"{path} must be a list of values, not {show(values)}", f"write {path}: [{values}]")
        if not values:
            wrong(f"{path} has no values", "name at least one, or leave the key out")
        counts = Counter(repr(value) for value in values)
        if twice := [text for text, count in counts.items() if count > 1]:
            wrong(f"{path} names {short(twice[0])} twice", "give each value once")
        flat[path] = list(values)
    _disjoint(list(flat))
    return flat


def tasks(raw: Any) -> Any:
    """Return every task as {"params": {...}}, however it was written."""
    if not isinstance(raw, Mapping):
        return raw
    tasks: dict[str, Any] = {}
    for name, changes in raw.items():
        if not isinstance(changes, Mapping):
            wrong(
                f"{name} must be keys with values, not {show(changes)}", f"write {name}: {{params.data.name: digits}}"
            )
        params: dict[str, Any] = {}
        for key, value in changes.items():
            if key == "params" and isinstance(value, Mapping):
                params |= value
                continue
            _below_params(str(key))
            params = assign(params, str(key).removeprefix("params."), value)
        tasks[str(name)] = {"params": params}
    return tasks


def _below_params(path: str) -> None:
    if not re.fullmatch(r"params(\.[^.]+)+", path):
        wrong(f"{show(path)} cannot vary, because only parameters can", f"write params.{path.removeprefix('params.')}")


def _disjoint(paths: list[str]) -> None:
    for path in paths:
        parts = path.split(".")
        for above in (".".join(parts[:n]) for n in range(2, len(parts))):
            if above in paths:
                wrong(f"{above} and {path} overlap", f"vary {path} only, or whole values of {above}")


def safe_name(text: str) -> str:
    """Return the closest valid directory name: a user's file may have any name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:100].rstrip(".")
    if not plain:
        return "sweep"
    return f"sweep-{plain}" if _DEVICES.fullmatch(plain) else plain


def paths(raw: Any) -> Any:
    """Return one path or a list of paths as a tuple."""
    return (raw,) if isinstance(raw, str) else as_tuple(raw)


def version(raw: Any) -> Any:
    """Return a version as text, because 2 and "2" are the same."""
    return str(raw) if isinstance(raw, (int, float)) and not isinstance(raw, bool) else raw
