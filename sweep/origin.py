"""What asked for a sweep, as words to type again: on a command line, or in Python where only Python can ask."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.argv import name as name_of_command
from sweep.config import Config, redact
from sweep.config.loading import called
from sweep.config.overrides import Override, parse_override
from sweep.config.plain import plain
from sweep.config.redaction import HIDDEN
from sweep.errors import ConfigError
from sweep.nested import flatten
from sweep.seeds import format_seeds

_CALL = "sweep.run("
_WORD = re.compile(r"[\w-]+")
_ASKED_APART = ("seeds", "until", "max_seeds")  # a directory knows them, and they are named when it is asked again


def asked_again(
    origin: str,
    *,
    out: str = "",
    seeds: Iterable[int] = (),
    until: str | None = None,
    max_seeds: int | None = None,
    retry_failed: bool = False,
) -> str:
    """What goes on with a directory: a command, or for a sweep that only Python can ask for the call.

    seeds: named, because a command without any would add the config's own.
    """
    wanted: dict[str, Any] = {
        "out": f"./{out}" if out.startswith("-") else out, "seeds": format_seeds(seeds), "until": until,
        "max_seeds": max_seeds, "retry_failed": retry_failed,
    }  # fmt: skip
    given = {name: value for name, value in wanted.items() if value}
    if origin.startswith(_CALL) and _harmless(origin):
        inside = [origin.removeprefix(_CALL).removesuffix(")"), *(f"{name}={v!r}" for name, v in given.items())]
        return f"{_CALL}{', '.join(part for part in inside if part)})"
    words = _split(origin)
    at = words.index("--") if "--" in words else len(words)  # what follows belongs to another program
    options = [
        word
        for name, value in given.items()
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
    ]
    return " ".join(map(_quoted, ["sweep", "run", *words[:at], *options, *words[at:]]))


def resumed(
    origin: str, config: Mapping[str, Any], *, out: str, seeds: Iterable[int], retry_failed: bool = False
) -> str:
    """What trains the runs that a directory lacks, by its own stopping rule where its config has one."""
    rule, most = config.get("until"), config.get("max_seeds")
    return asked_again(origin, out=out, seeds=seeds, until=rule, max_seeds=most, retry_failed=retry_failed)


def read_by(origin: str, metrics: str) -> str:
    """Return the words of `origin` with another `--metrics`; a call in Python stays as it is."""
    if origin.startswith(_CALL):
        return origin
    words = _split(origin)
    at = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    skip = False
    for word in words[:at]:
        if not skip and word != "--metrics" and not word.startswith(("collect.", "collect=", "--metrics=")):
            kept.append(word)
        skip = word == "--metrics"
    return shlex.join([*kept, *(["--metrics", metrics] if metrics != "auto" else []), *words[at:]])


def _split(origin: str) -> list[str]:
    """The words, whatever stands between them: a received directory's may hold more than a command's."""
    try:
        return shlex.split(origin)
    except ValueError:
        return []


def _harmless(call: str) -> bool:
    """Whether it is one call with names and literals alone, on one line."""
    try:
        found = ast.parse(call, mode="eval").body
        if not isinstance(found, ast.Call) or not call.isprintable():
            return False
        for value in (*found.args, *(keyword.value for keyword in found.keywords)):
            if not isinstance(value, ast.Name):
                ast.literal_eval(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return False
    return ast.unparse(found.func) == _CALL.removesuffix("(")


def _quoted(word: str) -> str:
    """A word as bash, zsh and ksh read it; nothing in it moves the cursor or turns the line around."""
    if word.isprintable():
        return shlex.quote(word)
    special = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}
    return "$'" + "".join(special.get(c) or (c if c.isprintable() else _escaped(c)) for c in word) + "'"


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it
        code -= 0xDC00
        return f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def of_command_line(
    config: str | None,
    overrides: Sequence[str],
    deterministic: bool | None,
    command: Sequence[str] = (),
    metrics: str | None = None,
) -> str:
    """The words that ask for this experiment again, secrets hidden; its seeds are known to its directory."""
    words = [word for word in (config, *overrides) if word and not word.startswith("seeds=")]
    plain_ = [word for word in words if "=" not in word]
    hidden = _redacted(word for word in words if "=" in word)
    mode = {True: ["--deterministic"], False: ["--fast"], None: []}[deterministic]
    where = ["--metrics", metrics] if metrics is not None else []
    return shlex.join([*plain_, *hidden, *mode, *where, *(("--", *redact(list(command))) if command else ())])


def of_call(
    config: Any,
    overrides: Sequence[str],
    settings: Mapping[str, Any],
    *,
    function: Callable[..., Any] | None,
    name: str,
) -> str:
    """The words after `sweep run` that ask for what a call of `sweep.run` asked for; the call, where none can.

    config, overrides, settings: as `sweep.run` was given them, accepted already. function: where config is one.
    name: what the sweep came to be called. Secrets are hidden.
    """
    given: dict[str, Any] = dict(settings)
    if isinstance(config, Config):
        given = {**config.model_dump(mode="json", by_alias=True, exclude_defaults=True), **given}
    elif isinstance(config, Mapping):
        given = {**config, **given}
    given = redact(plain({k: v for k, v in given.items() if v is not None and k not in _ASKED_APART}, _no_problem))
    words = _redacted(word for word in overrides if not word.startswith("seeds="))
    try:
        if function is not None:
            given = {"train": _reference(function), **given}
        file = [os.fspath(config)] if isinstance(config, (str, os.PathLike)) else []
        usual = name_of_command(given["command"]) if given.get("command") else called(given)
        if not file and name != usual:
            given["name"] = name
        return shlex.join([*file, *words, *_words(given)])
    except _Unsayable:
        first = [] if function is None else [getattr(function, "__name__", "function").strip("<>")]
        rest = [*map(repr, words), *(f"{key}={value!r}" for key, value in given.items())]
        return f"{_CALL}{', '.join([*first, *rest])})"


class _Unsayable(Exception):
    """No command line can ask for this."""


def _no_problem(problem: ConfigError, path: Any) -> None:
    """What was accepted as a config has none."""


def _reference(function: Callable[..., Any]) -> str:
    """`module:name` of a function that another process can import. Raises: _Unsayable."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "<")
    if not module or module == "__main__" or "<" in name:
        raise _Unsayable
    return f"{module}:{name}"


def _redacted(words: Iterable[str]) -> list[str]:
    """`KEY=VALUE` words with the values of secret keys hidden, wherever in the path or the value such a key stands."""
    return [f"{key}={_hidden(key, value)}" for key, _, value in (word.partition("=") for word in words)]


def _hidden(key: str, value: str) -> str:
    shown: str = redact({key: value})[key]
    override = _parsed(f"{key}={value}")
    told = shown == value and override is not None and redact(override.tree()) != override.tree()
    return HIDDEN if told else shown


def _words(given: Mapping[str, Any]) -> Iterator[str]:
    """The options and words of settings that were accepted. Raises: _Unsayable."""
    rest = dict(given)
    command, mode = rest.pop("command", None), rest.pop("deterministic", None)
    for key, value in rest.items():
        yield from _assigned(key, value)
    if mode is not None:
        yield "--deterministic" if mode else "--fast"
    if command:
        yield from ("--", *command)


def _assigned(path: str, value: Any) -> Iterator[str]:
    if path == "seed":
        yield f"seed={value}"
    elif path == "grid":
        yield from (_variants(key, values) for key, values in flatten(value))
    elif isinstance(value, Mapping) and value and all(map(_WORD.fullmatch, value)):
        for key, inner in value.items():
            yield from _assigned(f"{path}.{key}", inner)
    else:
        yield f"{path}={_typed(path, value)}"


def _variants(path: str, values: Sequence[Any]) -> str:
    """`params.lr=0.1,0.3`."""
    text = ",".join(_typed(path, value) for value in values)
    found = _parsed(f"{path}={text}")
    if found is None or not found.grid or found.value != values:
        raise _Unsayable
    return f"{path}={text}"


def _typed(path: str, value: Any) -> str:
    """The value as it can be typed after `path=`: quoted where it would be read as something else."""
    for text in (*([value] if isinstance(value, str) else []), json.dumps(value, ensure_ascii=False)):
        found = _parsed(f"{path}={text}")
        if found is not None and not found.grid and type(found.value) is type(value) and found.value == value:
            return text
    raise _Unsayable


def _parsed(word: str) -> Override | None:
    try:
        return parse_override(word)
    except ConfigError:
        return None
