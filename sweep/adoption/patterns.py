"""Patterns of files and folders, such as `runs/{method}/seed{seed}.csv`, and the paths that match them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sweep.adoption.runs import SEEDS, Opened, Roles, entry_of, value
from sweep.config.schema import Collect
from sweep.errors import ConfigError
from sweep.metrics.printed import in_time
from sweep.seeds import natural

PART = re.compile(r"\{([A-Za-z_]\w*)\}")


def of_pattern(text: str, roles: Roles, collect: Collect | None) -> Opened:
    names = PART.findall(text)
    for role in roles.names:
        if role not in names:
            raise ConfigError(
                f"the pattern has no part {{{role}}}",
                where=text,
                hint=f"name one of its parts: {', '.join(names)}" if names else f"write {{{role}}} into the pattern",
            )
    found = matching(text)
    if not found:
        raise ConfigError("no file or folder matches this pattern", where=text, hint=_near(text))
    seed = roles.seed or next((name for name in names if name in SEEDS), None)
    task = roles.task or ("task" if "task" in names else None)
    rest = tuple(dict.fromkeys(name for name in names if name not in (seed, task)))
    entries = [entry_of(path, {name: value(part) for name, part in values.items()}, collect) for path, values in found]
    fixed = [part for part in Path(text).parts[:-1] if not PART.search(part) and "*" not in part and part != os.sep]
    called = fixed[-1] if fixed and fixed[-1] not in (".", "..") else "adopted"
    return Opened("files", entries, Roles(seed, task, roles.variant if roles.variant is not None else rest), called)


def _near(text: str) -> str:
    """Return a hint: the part of a pattern that exists, and what is there."""
    parts = Path(text).parts
    for count in range(len(parts) - 1, 0, -1):
        if found := matching(os.path.join(*parts[:count])):
            folder = found[0][0]
            if not folder.is_dir():
                return f"{folder} is not a folder"
            inside = ", ".join(sorted(os.listdir(folder))[:8])
            return f"{folder} has {inside}" if inside else f"{folder} is empty"
    return f"there is no {parts[0]} in this folder"


def matching(pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Return the paths that match a pattern, each with the values of its named parts.

    `{name}` matches part of a folder or file name, `*` any part, `**` any folders. A name that occurs twice must have
    one value. {seed} matches only digits if any file has digits there.
    """
    start, *parts = Path(pattern).parts
    root, parts = (Path(start), parts) if Path(pattern).is_absolute() else (Path(), [start, *parts])
    try:
        for seed in (r"\d+", ".+?"):
            if found := sorted(_walk(root, parts, {}, seed), key=lambda each: natural(os.fspath(each[0]))):
                return list({path: (path, names) for path, names in found}.values())
    except RecursionError:
        raise ConfigError("folders are nested too deeply", where=pattern) from None
    return []


def _walk(
    folder: Path, parts: Sequence[str], known: dict[str, str], seed: str
) -> Iterator[tuple[Path, dict[str, str]]]:
    if not parts:
        yield folder, known
        return
    part, *rest = parts
    if part == "**":
        for each in sorted(Path(at) for at, _, _ in os.walk(folder)):
            yield from _walk(each, rest, known, seed)
        return
    if "*" not in part and not PART.search(part):
        if (folder / part).exists():
            yield from _walk(folder / part, rest, known, seed)
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    fits = re.compile(_expression(part, known, seed))
    for name in names:
        with in_time(part, len(name)):
            match = fits.fullmatch(name)
        if match and (not rest or (folder / name).is_dir()):
            yield from _walk(folder / name, rest, {**known, **match.groupdict()}, seed)


def _expression(part: str, known: Mapping[str, str], seed: str) -> str:
    out = ""
    for at, piece in enumerate(PART.split(part)):
        if at % 2 == 0:  # between two names
            out += re.escape(piece).replace(r"\*", "[^/]*")
        elif piece in known:
            out += re.escape(known[piece])
        elif f"(?P<{piece}>" in out:
            out += f"(?P={piece})"
        else:
            out += f"(?P<{piece}>{seed if piece == 'seed' else '.+?'})"
    return out
