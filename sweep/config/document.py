"""YAML text to plain data: YAML 1.2's reading, line numbers kept, nothing executed, everything bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NoReturn

import yaml

from sweep.config.scalar import INTERPOLATION, Ambiguous, ambiguous, scalar, short
from sweep.errors import ConfigError

Path = tuple[str | int, ...]

MOST_BYTES = 2**20
DEEPEST = 32
# After aliases are expanded: ten lines of them can stand for a billion values, and merging takes 0.3 ms for each.
MOST_NODES = 10_000
MOST_RAW_NODES = 200_000
RAW_KEYS = frozenset({"seed", "seeds", "command"})  # read as written: `010` must reach the seeds grammar

# libyaml where PyYAML was built with it: the parser in Python takes seconds for a megabyte.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """value: what the file says, as dict, list, str, int, float, bool, None. lines: path -> line, from 1."""

    value: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it that has one."""
        for end in range(len(path), 0, -1):
            if (found := self.lines.get(path[:end])) is not None:
                return found
        return None


def read(path: FilePath) -> Document:
    """The mapping in the YAML file at `path`. Raises ConfigError for anything else found there."""
    text = _text(path)
    try:
        value, lines = parse(text)
    except ConfigError as problem:
        raise ConfigError.of([problem], where=str(path)) from None
    if value is None:
        raise ConfigError(
            "the file is empty",
            where=str(path),
            hint="leave the config out for the built-in example: sweep run --seeds 42,123,456",
        )
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise ConfigError(f"holds {kind}, not keys with values", where=str(path), hint="for example: name: digits")
    return Document(value, lines)


def parse(text: str, *, raw: bool = False) -> tuple[Any, dict[Path, int]]:
    """The data in one YAML document and the line of each path. raw: every scalar stays text, as written.

    Raises ConfigError: bad syntax, duplicate keys, tags, merge keys, keys that are not text, more than one
    document, deeper than 32, more than 10,000 values once aliases are expanded, numbers that are not finite
    or ambiguous.
    """
    loader = None
    try:
        loader = _Loader(text)
        return _build(_events(loader), raw=raw)
    except yaml.YAMLError as error:
        raise _syntax(error, text) from None
    finally:
        if loader is not None:
            loader.dispose()


@dataclass
class _Frame:
    """A list or mapping under construction. `key` is the mapping's key still waiting for its value."""

    value: Any
    path: Path
    raw: bool
    anchor: str | None
    nodes: int = 1
    depth: int = 1
    key: str | None = None
    keys: set[str] = field(default_factory=set)


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


def _build(events: Iterator[Any], *, raw: bool) -> tuple[Any, dict[Path, int]]:
    # Events instead of PyYAML's composer: it recurses, so nesting could exhaust the stack before we count it.
    stack: list[_Frame] = []
    lines: dict[Path, int] = {}
    anchors: dict[str, tuple[Any, int, int] | None] = {}
    total = {False: 0, True: 0}  # by whether they are kept as written: seeds are many and cheap
    documents = 0
    root: Any = None

    def place(value: Any, nodes: int, depth: int, line: int) -> None:
        nonlocal root
        kind = _raw(stack[-1] if stack else None, raw)
        total[kind] += nodes
        most = MOST_RAW_NODES if kind else MOST_NODES
        if total[kind] > most:
            _refuse(f"more than {most} values", line, "aliases (*name) count as often as they are used")
        if len(stack) + depth > DEEPEST:
            _refuse(f"nested deeper than {DEEPEST} levels", line)
        if not stack:
            root = value
            return
        frame = stack[-1]
        frame.nodes += nodes
        frame.depth = max(frame.depth, depth + 1)
        if isinstance(frame.value, list):
            lines[(*frame.path, len(frame.value))] = line
            frame.value.append(value)
        else:
            frame.value[frame.key] = value
            frame.key = None

    for event in events:
        line = event.start_mark.line + 1
        frame = stack[-1] if stack else None
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse("more than one document (---)", line, "one file holds one config")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors or (known := anchors[event.anchor]) is None:
                _refuse(f"*{event.anchor} stands for nothing complete", line)
            if frame is not None and isinstance(frame.value, dict) and frame.key is None:
                _refuse("an alias as a key", line, "write the key out")
            place(known[0], known[1], known[2], line)
        elif isinstance(event, yaml.ScalarEvent):
            _no_tag(event, line)
            if frame is not None and isinstance(frame.value, dict) and frame.key is None:
                frame.key = _key(event, frame, line)
                lines[(*frame.path, frame.key)] = line
                continue
            value = _scalar(event, line, raw=_raw(frame, raw))
            if event.anchor is not None:
                anchors[event.anchor] = (value, 1, 0)
            place(value, 1, 0, line)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            _no_tag(event, line)
            if frame is not None and isinstance(frame.value, dict) and frame.key is None:
                _refuse("a list or mapping as a key", line, "keys are plain words")
            if len(stack) >= DEEPEST:
                _refuse(f"nested deeper than {DEEPEST} levels", line)
            inner: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            if event.anchor is not None:
                anchors[event.anchor] = None
            path = () if frame is None else (*frame.path, _slot(frame))
            lines.setdefault(path, line)
            stack.append(_Frame(inner, path, _raw(frame, raw), event.anchor))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            done = stack.pop()
            if done.anchor is not None:
                anchors[done.anchor] = (done.value, done.nodes, done.depth)
            total[done.raw] -= done.nodes - 1  # its parts were counted one by one
            place(done.value, done.nodes, done.depth, line)
    lines.pop((), None)
    return root, lines


def _slot(frame: _Frame) -> str | int:
    return len(frame.value) if isinstance(frame.value, list) else str(frame.key)


def _raw(frame: _Frame | None, raw: bool) -> bool:
    if frame is None:
        return raw
    return frame.raw or (not frame.path and isinstance(frame.value, dict) and frame.key in RAW_KEYS)


def _key(event: Any, frame: _Frame, line: int) -> str:
    text: str = event.value
    if not event.style and text == "<<":
        _refuse("merge keys (<<) are not read", line, "write the keys out, or give them as KEY=VALUE")
    if "${" in text:
        _interpolation(line)
    if not event.style and not isinstance(_scalar(event, line, raw=False), str):
        _refuse(f"the key {short(text)} is not text", line, f'quote it: "{short(text)}"')
    if text in frame.keys:
        first = f" in {'.'.join(map(str, frame.path))}" if frame.path else ""
        _refuse(f"the key {short(repr(text))} stands twice{first}", line, "keep one of the two")
    frame.keys.add(text)
    return text


def _scalar(event: Any, line: int, *, raw: bool) -> Any:
    text: str = event.value
    if "${" in text:
        _interpolation(line)
    if raw or event.style:
        return text
    try:
        value = scalar(text)
    except ConfigError as problem:
        _refuse(problem.what, line, problem.hint)
    return Ambiguous(value) if isinstance(value, str) and ambiguous(value) else value


def _no_tag(event: Any, line: int) -> None:
    if event.tag is not None:
        tag = short(event.tag.replace("tag:yaml.org,2002:", "!!"))
        what = f"the tag {tag} is refused: a config is data and runs no code"
        _refuse(what, line, "write the plain value, quoted for text")


def _interpolation(line: int) -> NoReturn:
    _refuse(INTERPOLATION[0], line, INTERPOLATION[1])


def _refuse(what: str, line: int, hint: str | None = None) -> NoReturn:
    raise ConfigError(what, where=f"line {line}", hint=hint)


# What the two parsers of PyYAML say in words of their own, by a part that they share.
_SYNTAX = {
    "values are not allowed": ("a second : in one line", "quote the value that holds it"),
    "start any token": ("a value starts with a sign that means something else", "quote it"),
    "undefined alias": ("a * names nothing above", "quote it for text"),
    "expected": ("something is not closed, or not indented like its neighbours", None),
}


def _syntax(error: yaml.YAMLError, text: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    if mark is None:
        return ConfigError(f"not valid YAML: {problem}")
    where, lines = f"line {mark.line + 1}", text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "${" in line:
        return ConfigError(INTERPOLATION[0], where=where, hint=INTERPOLATION[1])
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return ConfigError("not valid YAML: a tab", where=where, hint="indent with blanks")
    words, hint = next((ours for part, ours in _SYNTAX.items() if part in problem), (problem, None))
    return ConfigError(f"not valid YAML: {words}", where=where, hint=hint)


def _text(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError("is a directory, not a config file", where=str(path), hint=_beside(path)) from None
    except FileNotFoundError:
        raise ConfigError("no such config file", where=str(path), hint=_beside(path.parent, path.name)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", where=repr(str(path))) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(
            f"larger than {MOST_BYTES >> 20} MiB",
            where=str(path),
            hint="many seeds go into a file: --seeds @seeds.txt",
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise ConfigError("the file is UTF-16", where=str(path), hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8", where=f"{path}: line {line}", hint="save it as UTF-8") from None


def _beside(folder: FilePath, name: str = "") -> str:
    from difflib import get_close_matches

    try:
        found = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        found = []
    near = get_close_matches(name, found, n=1) if name else []
    if near:
        return f"did you mean {folder / near[0]}?"
    if found:
        return "found there: " + ", ".join(str(folder / n) for n in found[:5])
    return "leave the config out for the built-in example: sweep run --seeds 42,123,456"
