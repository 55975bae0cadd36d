"""YAML text to plain data: read as YAML 1.2, line numbers kept, nothing executed, sizes bounded.

Text that YAML readers disagree about (`010`, `1_000`, a bare `no`) is marked here and refused in `loading`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from math import isfinite
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml

from sweep.errors import ConfigError, short
from sweep.textfile import read_text

Path = tuple[str | int, ...]

MOST_BYTES = 2**20
DEEPEST = 32
MOST_NODES = 200_000  # after aliases are expanded: ten lines of them can expand to a billion values
RAW_KEYS = frozenset({"seed", "seeds", "command"})  # read as written: `010` must reach the seeds grammar
INTERPOLATION = (
    "${…} is not replaced, because a secret or a path of this machine would then be recorded",
    "write the value itself, or let your code read the environment variable",
)

# libyaml if PyYAML was built with it: the parser in Python takes seconds for a megabyte.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o[0-7]{1,16}|0x[0-9a-fA-F]{1,16}")
_NOT_FINITE = re.compile(r"[-+]?\.?(nan|inf|infinity)", re.IGNORECASE)
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _CONSTANTS |= {_word: _value, _word.capitalize(): _value, _word.upper(): _value}


class Contested(str):
    """A bare text that readers disagree about. what, hint: why it is refused unless a type declares it as text.

    number: some read it as a number; otherwise it is a word such as `no`, which a key declared as text may hold.
    """

    what: str
    hint: str
    number: bool


class Int(int):
    """A whole number that remembers how it was written, for a parameter that is declared as text."""

    text: str


class Float(float):
    """A number that remembers how it was written, such as 3.10."""

    text: str


def read(path: FilePath) -> tuple[dict[str, Any], dict[Path, int]]:
    """Return the mapping in the YAML file at `path`, and the line of each path.

    Raises: ConfigError for anything else found there.
    """
    where = str(path)
    if path.is_dir() or not path.exists():
        what = "is a directory, not a config file" if path.is_dir() else "no such config file"
        raise ConfigError(what, where=where, hint=_beside(path))
    text = read_text(path, MOST_BYTES)
    try:
        value, lines = parse(text)
    except ConfigError as problem:
        raise ConfigError.of([problem], where=where) from None
    if value is None:
        hint = "leave the config out for the built-in example: sweep run --seeds 42,123,456"
        raise ConfigError("the file is empty", where=where, hint=hint)
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise ConfigError(f"holds {kind}, not keys with values", where=where, hint="for example: name: digits")
    return value, lines


def parse(text: str, *, raw: bool = False) -> tuple[Any, dict[Path, int]]:
    """Return the data in one YAML document and the line of each path. raw: every scalar stays text, as written.

    Raises: ConfigError for bad syntax, duplicate keys, tags, merge keys, keys that are not text, more than one
    document, more than 32 levels, and more than 200,000 values once aliases are expanded.
    """
    reader = _Reader(text)
    try:
        return reader.document(raw), reader.lines
    except yaml.YAMLError as error:
        raise _syntax(error, text) from None


class _Reader:
    """One document, read event by event, because PyYAML's own composer recurses without a limit."""

    def __init__(self, text: str) -> None:
        self.events = yaml.parse(text, Loader=_Loader)
        self.lines: dict[Path, int] = {}
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # value and its nodes; None while it is being read
        self.left = MOST_NODES

    def document(self, raw: bool) -> Any:
        value = None
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.DocumentStartEvent):
            value = self.value(next(self.events), (), raw)
            next(self.events)  # the document's end
            if isinstance(after := next(self.events), yaml.DocumentStartEvent):
                _refuse("there is more than one document (---)", after, "write one config per file")
        return value

    def value(self, event: Any, path: Path, raw: bool) -> Any:
        if path:
            self.lines.setdefault(path, event.start_mark.line + 1)
        raw = raw or (len(path) == 1 and path[0] in RAW_KEYS)
        before = self.left
        if isinstance(event, yaml.AliasEvent):
            if (known := self.anchors.get(event.anchor)) is None:
                _refuse(f"*{event.anchor} does not refer to a complete value", event)
            self.spend(known[1], event)
            return known[0]
        self.spend(1, event)
        if event.tag is not None:
            tag = short(event.tag.replace("tag:yaml.org,2002:", "!!"))
            what = f"the tag {tag} is not allowed, because a config must not run code"
            _refuse(what, event, "write the plain value, and quote it if it is text")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, raw=raw)
        elif len(path) >= DEEPEST:
            _refuse(f"this is nested deeper than {DEEPEST} levels", event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                value.append(self.value(inner, (*path, len(value)), raw))
        else:
            value = {}
            while not isinstance(name := next(self.events), yaml.MappingEndEvent):
                key = _key(name, value, path)
                self.lines[*path, key] = name.start_mark.line + 1
                value[key] = self.value(next(self.events), (*path, key), raw)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, before - self.left)
        return value

    def spend(self, nodes: int, event: Any) -> None:
        self.left -= nodes
        if self.left < 0:
            _refuse(
                f"there are more than {MOST_NODES} values",
                event,
                "use fewer aliases: *name counts each time that it is used",
            )


def _key(event: Any, known: dict[str, Any], path: Path) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
        _refuse("this key is not a plain word", event, "write it without aliases, tags and brackets")
    text: str = event.value
    if not event.style and text == "<<":
        _refuse("merge keys (<<) are not supported", event, "write the keys out, or give them as KEY=VALUE")
    read_as = _scalar(event)
    if not isinstance(read_as, str) or (isinstance(read_as, Contested) and read_as.number):
        _refuse(f"the key {short(text)} is not text", event, quoted(text))
    if text in known:
        first = f" in {'.'.join(map(str, path))}" if path else ""
        _refuse(f"the key {short(repr(text))} is given twice{first}", event, "keep one of the two")
    return text


def _scalar(event: Any, *, raw: bool = False) -> Any:
    if "${" in event.value:
        _refuse(INTERPOLATION[0], event, INTERPOLATION[1])
    return event.value if raw or event.style else scalar(event.value)


def scalar(text: str) -> bool | int | float | str | None:
    """Return a plain (unquoted) scalar in YAML 1.2's core reading: `1e-3` is a float; yes, no, on, off are text.

    Text that readers disagree about (`010`, `1_000`), NaN and infinity are returned as `Contested`.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    spelled = text in (text.lower(), text.capitalize(), text.upper())
    if (spelled and text.lower() in ("yes", "no", "on", "off")) or text == "None":
        value = "null" if text == "None" else "true" if text.lower() in ("yes", "on") else "false"
        reader = "Python" if text == "None" else "YAML 1.1"
        return _contested(text, f"is text to YAML 1.2 and {value} to {reader}", f"write {value}", number=False)
    if _INT.fullmatch(text):
        if re.match("[-+]?0[0-9]", text):
            return _contested(text, "is octal to some readers", "drop the leading 0")
        number = int(text) if len(text) <= 40 else 2**64
        if not -(2**63) <= number < 2**64:
            return _contested(text, "has more than 64 bits")
        return _written(Int(number), text)
    if _BASED.fullmatch(text):
        return _written(Int(text, 0), text)
    if _FLOAT.fullmatch(text) and isfinite(float_ := Float(text)):
        return _written(float_, text)
    if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return _contested(text, "is not a finite number", "write a finite number")
    if _UNDERSCORED.fullmatch(text):
        return _contested(text, "is a number to some readers and text to others", "write the digits without _")
    return text


def _contested(text: str, what: str, way: str = "", *, number: bool = True) -> Contested:
    found = Contested(text)
    found.what, found.hint = f"{short(text)} {what}", f"{way}, or {quoted(text)}" if way else quoted(text)
    found.number = number
    return found


def _written(number: Int | Float, text: str) -> Int | Float:
    number.text = text
    return number


def quoted(text: str) -> str:
    """Return a hint on how to write a word as text, in a file and on a command line, where a shell removes quotes."""
    return f'quote it for text: "{short(text)}", on a command line \'"{short(text)}"\''


def _refuse(what: str, event: Any, hint: str | None = None) -> NoReturn:
    raise ConfigError(what, where=f"line {event.start_mark.line + 1}", hint=hint)


def _syntax(error: yaml.YAMLError, text: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    where = None if mark is None else f"line {mark.line + 1}"
    if mark is not None and "${" in "".join(text.split("\n")[mark.line : mark.line + 1]):
        return ConfigError(INTERPOLATION[0], where=where, hint=INTERPOLATION[1])
    hint = (
        "indent with spaces, close brackets and quotes, and quote text that contains `: ` or begins with @, *, & or %"
    )
    return ConfigError(f"not valid YAML: {problem}", where=where, hint=hint)


def _beside(path: FilePath) -> str:
    """Return a hint that names the configs next to a path that is not a config."""
    folder = path if path.is_dir() else path.parent
    try:
        found = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        found = []
    if near := get_close_matches(path.name, found, n=1):
        return f"did you mean {folder / near[0]}?"
    if found:
        return "found there: " + ", ".join(str(folder / n) for n in found[:5])
    return "leave the config out for the built-in example: sweep run --seeds 42,123,456"
