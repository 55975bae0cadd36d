"""The grammar of seeds: `42,123,456`, `0-9`, mixed, lists of them, and files of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from operator import index
from pathlib import Path
from typing import TypeGuard

from sweep.errors import ConfigError

LARGEST = 2**32 - 1  # NumPy takes no more, and torch's CPU generator ignores what lies above
MOST = 1_000_000
_FILE_BYTES = 32 * 2**20

_EXAMPLE = "write them like 42,123,456 or 0-9"
# Only these characters: int() would also take ١, １, 1_000 and +1.
_NUMBER = re.compile(r"[0-9]+")
_RANGE = re.compile(r"([0-9]+)[ \t]*-[ \t]*([0-9]+)")
_BLANKS = " \t\r\n"

Entry = tuple[range, str]  # the seeds of one entry, and the place it was written


def parse_seed(raw: object, where: str = "seed") -> int:
    """One seed, 0 to 2**32 - 1, from an int (NumPy's too) or its digits. Raises: ConfigError."""
    if isinstance(raw, str) and not raw.strip(_BLANKS):
        raise ConfigError("no seed", where=where, hint="for example 42")
    entry = _entry(raw, where)
    if len(entry) != 1:
        raise ConfigError(
            f"{_show(raw)} is {len(entry)} seeds, one is wanted",
            where=where,
            hint="several seeds are given as seeds: [42, 123, 456] or --seeds 42,123,456",
        )
    return entry[0]


def parse_seeds(raw: object, where: str = "seeds", *, base: Path | None = None) -> tuple[int, ...]:
    """The seeds named by `raw`, in the order written.

    raw: `42,123,456`, `0-9` (9 included), a mix, one int, a list of all these, or `@file` (also the path of
    an existing file): entries by line or comma, `#` starts a comment. base: folder of relative file names.
    Raises: ConfigError naming every bad entry at once; duplicates and an empty list are refused.
    """
    if isinstance(raw, tuple) and _are_seeds(raw):  # checked before: a million seeds are parsed only once
        return raw
    problems: list[ConfigError] = []
    entries = list(_entries(raw, where, base or Path(), problems))
    if problems:
        raise ConfigError.of(_few(problems))
    total = sum(len(entry) for entry, _ in entries)
    if total == 0:
        raise ConfigError("no seeds", where=where, hint=_EXAMPLE)
    if total > MOST:
        raise ConfigError(f"{total} seeds, the limit is {MOST}", where=where, hint="split the sweep")
    seeds = tuple(seed for entry, _ in entries for seed in entry)
    if len(set(seeds)) != total:
        raise _duplicates(entries, where)
    return seeds


def _are_seeds(raw: tuple[object, ...]) -> TypeGuard[tuple[int, ...]]:
    return (
        0 < len(raw) <= MOST
        and all(type(seed) is int and 0 <= seed <= LARGEST for seed in raw)
        and len(set(raw)) == len(raw)
    )


def format_seeds(seeds: Iterable[int]) -> str:
    """The shortest text that `parse_seeds` reads back to the same seeds in the same order."""
    parts: list[str] = []
    for first, last in _stretches(seeds):
        parts.extend([f"{first}-{last}"] if last - first > 1 else [str(s) for s in range(first, last + 1)])
    return ",".join(parts)


def _stretches(seeds: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for seed in seeds:
        if last is not None and seed == last + 1:
            last = seed
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = seed
    if first is not None and last is not None:
        yield first, last


def _entries(raw: object, where: str, base: Path, problems: list[ConfigError]) -> Iterator[Entry]:
    if isinstance(raw, str):
        text = raw.strip(_BLANKS)
        path = _file(text, base)
        yield from _from_text(text, where, problems) if path is None else _from_file(path, where, problems)
    elif isinstance(raw, list | tuple | range):
        if isinstance(raw, range) and len(raw) > MOST:
            problems.append(ConfigError(f"{len(raw)} seeds, the limit is {MOST}", where=where))
            return
        for place, item in enumerate(raw):
            spot = f"{where}[{place}]"
            if isinstance(item, str):
                yield from _from_text(item.strip(_BLANKS), spot, problems)
            else:
                yield from _checked(item, spot, problems)
    elif hasattr(raw, "tolist") and getattr(raw, "ndim", 0) == 1:  # a NumPy array, without importing NumPy
        yield from _entries(raw.tolist(), where, base, problems)
    else:
        yield from _checked(raw, where, problems)


def _from_text(text: str, where: str, problems: list[ConfigError]) -> Iterator[Entry]:
    if not text:
        return
    for part in text.split(","):
        yield from _checked(part.strip(_BLANKS), where, problems)


def _checked(item: object, where: str, problems: list[ConfigError]) -> Iterator[Entry]:
    try:
        yield _entry(item, where), where
    except ConfigError as problem:
        problems.append(problem)


def _entry(item: object, where: str) -> range:
    if isinstance(item, str):
        return _written(item.strip(_BLANKS), where)
    if isinstance(item, bool) or type(item).__name__ in ("bool", "bool_"):
        raise ConfigError(f"{item} is not a seed", where=where, hint=_EXAMPLE)
    try:
        seed = index(item)  # type: ignore[arg-type]
    except TypeError:
        kind = "nothing" if item is None else f"{_show(item)} ({type(item).__name__})"
        raise ConfigError(f"a seed is a whole number, not {kind}", where=where, hint=_EXAMPLE) from None
    _in_range(seed, str(seed) if abs(seed) <= 2**128 else "a number of many digits", where)
    return range(seed, seed + 1)


def _written(text: str, where: str) -> range:
    if not text:
        raise ConfigError("an empty entry between commas", where=where, hint=_EXAMPLE)
    if _NUMBER.fullmatch(text):
        seed = _digits(text, where)
        return range(seed, seed + 1)
    if match := _RANGE.fullmatch(text):
        first, last = (_digits(part, where) for part in match.groups())
        if first > last:
            raise ConfigError(
                f"the range {text} runs backwards",
                where=where,
                hint=f"write {last}-{first}, both ends included",
            )
        if last - first >= MOST:
            raise ConfigError(f"{text} is {last - first + 1} seeds, the limit is {MOST}", where=where)
        return range(first, last + 1)
    raise ConfigError(f"{_show(text)} is not a seed{_reason(text)}", where=where, hint=_EXAMPLE)


def _reason(text: str) -> str:
    if re.fullmatch(r"-[0-9]+", text):
        return f": seeds run from 0 to {LARGEST}"
    if re.fullmatch(r"[-+]?[0-9]*\.[0-9]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+", text):
        return ": seeds are whole numbers, written in full"
    if re.fullmatch(r"\+[0-9]+|[0-9][0-9_]*", text) or (text.isdigit() and not text.isascii()):
        return ": only the digits 0-9 are read"
    if re.fullmatch(r"[0-9]+([ \t]+[0-9]+)+", text):
        return ": separate seeds with commas"
    return ""


def _digits(text: str, where: str) -> int:
    if len(text) > 1 and text[0] == "0":
        plain = text.lstrip("0") or "0"
        hint = f"write {plain}" if len(plain) <= 10 else _EXAMPLE
        raise ConfigError(f"{_show(text)} starts with 0, which some read as octal", where=where, hint=hint)
    # The length first: int() refuses thousands of digits with an error of its own.
    seed = int(text) if len(text) <= 40 else LARGEST + 1
    _in_range(seed, _short(text), where)
    return seed


def _in_range(seed: int, shown: str, where: str) -> None:
    if not 0 <= seed <= LARGEST:
        raise ConfigError(
            f"{shown} is outside 0 to {LARGEST} (2**32 - 1)",
            where=where,
            hint="torch ignores the bits above 32, so two such seeds could be one model",
        )


def _duplicates(entries: list[Entry], where: str) -> ConfigError:
    seen: set[int] = set()
    twice: dict[int, str] = {}
    for entry, place in entries:
        for seed in entry:
            if seed in seen:
                twice.setdefault(seed, place)
            seen.add(seed)
    names = ", ".join(str(seed) for seed in list(twice)[:5])
    more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
    place = next(iter(twice.values())) if len(twice) == 1 else where
    return ConfigError(
        f"duplicate seeds: {names}{more}", where=place, hint="each seed counts once; name every seed once"
    )


def _file(text: str, base: Path) -> Path | None:
    if text.startswith("@"):
        return base / text[1:].strip(_BLANKS)
    # `1.5` and `1e3` stay bad seeds whatever files lie about; a name has letters or a separator.
    if "\0" in text or not re.search(r"[A-Za-z/\\]", text) or re.fullmatch(r"[0-9.+-]+[eE][0-9+-]*", text):
        return None
    try:
        return base / text if (base / text).is_file() else None
    except OSError:
        return None


def _from_file(path: Path, where: str, problems: list[ConfigError]) -> Iterator[Entry]:
    try:
        lines = _lines(path, where)
    except ConfigError as problem:
        problems.append(problem)
        return
    found = False
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip(_BLANKS)
        found = found or bool(text)
        yield from _from_text(text, f"{path}:{number}", problems)
    if not found:
        problems.append(ConfigError("no seeds in the file", where=str(path), hint="one seed or range a line"))


def _lines(path: Path, where: str) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"no such seeds file: {path}", where=where, hint=_EXAMPLE) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the seeds file {str(path)!r}: {reason}", where=where) from None
    if len(data) > _FILE_BYTES:
        raise ConfigError(f"the seeds file is larger than {_FILE_BYTES >> 20} MiB", where=str(path))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise ConfigError("the seeds file is UTF-16", where=str(path), hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the seeds file is not UTF-8", where=f"{path}:{line}", hint="save it as UTF-8") from None


def _few(problems: list[ConfigError]) -> list[ConfigError]:
    if len(problems) <= 20:
        return problems
    return [*problems[:20], ConfigError(f"and {len(problems) - 20} more like these")]


def _show(value: object) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"
