"""The grammar of seeds: `42,123,456`, `0-9`, a mix, lists, and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from operator import index
from pathlib import Path

from sweep.errors import ConfigError, show, some
from sweep.textfile import read_text

LARGEST = 2**32 - 1  # NumPy accepts no more, and torch's CPU generator ignores higher bits
MOST = 1_000_000
_FILE_BYTES = 32 << 20

_EXAMPLE = (
    f"write 42,123,456 or 0-9, with whole numbers from 0 to {LARGEST} in plain digits, or @FILE for a file of seeds"
)
# Only these characters: int() would also take ١, １, 1_000 and +1.
_ENTRY = re.compile(r"([0-9]+)(?:[ \t]*-[ \t]*([0-9]+))?")
_BLANKS = " \t\r\n"


def parse_seed(raw: object, where: str = "seed") -> int:
    """Return one seed, 0 to 2**32 - 1, from an int (NumPy's too) or its digits. Raises: ConfigError."""
    entry = _entry(raw, where)
    if len(entry) != 1:
        hint = "give several seeds as seeds: [42, 123, 456] or --seeds 42,123,456"
        raise ConfigError(f"{show(raw)} is {len(entry)} seeds, but only one can be given here", where=where, hint=hint)
    return entry[0]


def parse_seeds(raw: object, where: str = "seeds") -> tuple[int, ...]:
    """Return the seeds in `raw`, in the written order.

    raw: `42,123,456`, `0-9` (9 included), a mix, one int, a list of these, or `@file` with entries separated by lines
    or commas, in which `#` starts a comment.
    Raises: ConfigError naming all invalid entries; duplicates and an empty list are refused.
    """
    entries: list[tuple[range, str]] = []
    problems: list[ConfigError] = []
    for item, place in _items(raw, where):
        try:
            entries.append((_entry(item, place), place))
        except ConfigError as problem:
            problems.append(problem)
    if problems:
        more = [ConfigError(f"and {len(problems) - 20} more like these")] if len(problems) > 20 else []
        raise ConfigError.of([*problems[:20], *more])
    total = sum(len(entry) for entry, _ in entries)
    if total == 0:
        raise ConfigError("there are no seeds", where=where, hint=_EXAMPLE)
    if total > MOST:
        raise ConfigError(f"there are {total} seeds, but the limit is {MOST}", where=where, hint="split the sweep")
    seen: dict[int, None] = {}  # ordered
    twice: dict[int, str] = {}
    for entry, place in entries:
        twice |= {seed: twice.get(seed, place) for seed in entry if seed in seen}
        seen |= dict.fromkeys(entry)
    if twice:
        what = f"duplicate seeds: {some(map(str, twice), 5)}"
        raise ConfigError(what, where=next(iter(twice.values())), hint="each seed counts once, so name it only once")
    return tuple(seen)


def format_seeds(seeds: Iterable[int]) -> str:
    """Return the shortest text from which `parse_seeds` reads the same seeds in the same order."""
    stretches: list[list[int]] = []
    for seed in seeds:
        if stretches and seed == stretches[-1][1] + 1:
            stretches[-1][1] = seed
        else:
            stretches.append([seed, seed])
    return ",".join(f"{a}-{b}" if b - a > 1 else ",".join(map(str, range(a, b + 1))) for a, b in stretches)


def natural(label: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts seed9 before seed10."""
    parts = re.findall(r"\d+|\D+", label)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def seeds_file(raw: object, folder: Path) -> Path | None:
    """Return the path that `@file` names, relative to `folder`; None for any other value."""
    text = raw.strip(_BLANKS) if isinstance(raw, str) else ""
    return folder / text[1:].strip(_BLANKS) if text.startswith("@") else None


def _items(raw: object, where: str) -> Iterator[tuple[object, str]]:
    """Yield every written entry with its place. Raises: ConfigError."""
    if isinstance(raw, str):
        if (path := seeds_file(raw, Path())) is None:
            yield from _split(raw, where)
            return
        lines = read_text(path, _FILE_BYTES, hint="write one seed or range per line").split("\n")
        for number, line in enumerate(lines, start=1):
            yield from _split(line.partition("#")[0], f"{path}:{number}")
        return
    values = raw.tolist() if hasattr(raw, "tolist") and getattr(raw, "ndim", 0) == 1 else raw  # of a NumPy array
    if not isinstance(values, list | tuple | range):
        yield values, where
        return
    if len(values) > MOST:
        raise ConfigError(
            f"there are {len(values)} seeds, but the limit is {MOST}", where=where, hint="split the sweep"
        )
    for at, value in enumerate(values):
        place = f"{where}[{at}]"
        yield from _split(value, place) if isinstance(value, str) else [(value, place)]


def _split(text: str, where: str) -> Iterator[tuple[str, str]]:
    if text.strip(_BLANKS):
        yield from ((part, where) for part in text.split(","))


def _entry(item: object, where: str) -> range:
    """Return the seeds of one entry: one, or those of a range."""
    if isinstance(item, str):
        found = _ENTRY.fullmatch(item.strip(_BLANKS))
        if found is None:
            raise ConfigError(f"{show(item)} is not a seed", where=where, hint=_EXAMPLE)
        first, last = (_number(digits, where) for digits in (found[1], found[2] or found[1]))
        if first > last:
            hint = f"write {last}-{first}, both ends included"
            raise ConfigError(f"the range {found[0]} runs backwards", where=where, hint=hint)
        return range(first, last + 1)
    try:
        seed = index(item) if not isinstance(item, bool) else None  # type: ignore[arg-type]
    except TypeError:
        seed = None
    if seed is None:
        raise ConfigError(f"{show(item)} ({type(item).__name__}) is not a seed", where=where, hint=_EXAMPLE)
    shown = str(seed) if abs(seed) < 2**128 else "a number of many digits"
    return range(_within(seed, shown, where), seed + 1)


def _number(digits: str, where: str) -> int:
    if len(digits) > 1 and digits[0] == "0":
        raise ConfigError(
            f"{show(digits)} starts with 0, which some read as octal", where=where, hint="drop the leading 0"
        )
    # The length first, because int() refuses thousands of digits with another error.
    return _within(int(digits) if len(digits) <= 40 else LARGEST + 1, show(digits), where)


def _within(seed: int, shown: str, where: str) -> int:
    if not 0 <= seed <= LARGEST:
        hint = "use smaller seeds: torch ignores bits above 32, so two larger seeds could give the same model"
        raise ConfigError(f"{shown} is outside 0 to {LARGEST} (2**32 - 1)", where=where, hint=hint)
    return seed
