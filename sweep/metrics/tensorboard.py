"""TensorBoard's event files: every record checked, the folders that each run names anew left out of the names."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sweep.errors import EnvironmentRefused
from sweep.metrics.rows import NotFound, Row
from sweep.store import atomic

WHERE = "collect.tensorboard"
LARGEST = 256 << 20  # bytes of a record
_MACHINE_MADE = re.compile(r"\d{6,}(\.\d+)?|version_\d+|.*\d{2}[-_:]\d{2}[-_:]\d{2}.*|.*\d{8,}.*")


def require() -> None:
    """Raises: EnvironmentRefused when the package that parses events is not installed."""
    if find_spec("tensorboard") is None:
        raise EnvironmentRefused(
            "TensorBoard files need the package tensorboard", where=WHERE, hint='pip install "seed-sweep[tensorboard]"',
        )  # fmt: skip


def event_files(folder: Path) -> list[Path]:
    """Return the event files below a folder, in order."""
    found = (Path(top, file) for top, _, files in os.walk(folder) for file in files if "tfevents" in file)
    return sorted(path for path in found if path.is_file())


def rows(folder: Path, fresh: Callable[[Path], bool], *, seed: str, at_work: bool) -> list[Row]:
    """Return a row for each (step, tag) of the event files below `folder`, the folder's name before the tag.

    A folder that is named by a clock, a version or the seed says nothing: it is no part of the name, or the same
    metric would have another one in each run. fresh: whether this run wrote a file. at_work: it may be half written.

    Raises: NotFound when a file is broken or cut, or two folders hold the same metric.
    """
    require()
    found: list[tuple[int, dict[str, Any]]] = []
    places: dict[str, tuple[int, Path]] = {}
    files = [path for path in event_files(folder) if fresh(path)]
    for path in files:
        if not at_work:
            _require_whole(path)
        parts = path.parent.relative_to(folder).parts
        named = (_without(seed, part) for part in parts if not _MACHINE_MADE.fullmatch(part))
        words = [part for part in named if part]
        for step, tag, value in _scalars(path):
            if tag == "hp_metric":  # Lightning's placeholder
                continue
            name = "/".join((*words, tag))
            depth, place = places.setdefault(name, (len(parts), path.parent))
            if place != path.parent and depth == len(parts):
                raise NotFound(
                    f"{name!r} is in {place.name} and in {path.parent.name}", where=WHERE,
                    hint="name the folder of one: --metrics tensorboard:FOLDER",
                )  # fmt: skip
            if place == path.parent:
                found.append((step, {"step": step, name: value}))
    if not found:
        raise NotFound(f"no scalars in {folder}", where=WHERE, hint=f"{len(files)} event files")
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def _without(seed: str, part: str) -> str:
    """Return the name of a folder without the seed: of `ppo_seed3` it is `ppo`, of `3` nothing."""
    return "" if part == seed else re.sub(rf"(?i)[-_.,]*seed[-_=]?0*{seed or '-'}(?!\d)", "", part)


def _scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield (step, tag, value) of each number. Raises: NotFound where whole records hold no events."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    try:
        for event in EventFileLoader(os.fspath(path)).Load():
            for value in event.summary.value:
                if not value.HasField("tensor"):
                    continue
                array = tensor_util.make_ndarray(value.tensor)
                if array.size == 1 and array.dtype.kind in "fiu":
                    yield int(event.step), str(value.tag), float(array.item())
    except Exception as error:  # protobuf and NumPy have exceptions of their own
        raise NotFound(f"{path.name} cannot be read: {error}", where=WHERE) from error


def _require_whole(path: Path) -> None:
    """Check every record of a file against its checksums. Raises: NotFound at the first that does not hold."""
    at = 0
    with atomic.opened(path.resolve()) as stream:
        size = os.fstat(stream.fileno()).st_size
        while at < size:
            head = stream.read(12)
            if len(head) < 12:
                _broken(path, at, "is cut off")
            length, check = struct.unpack("<QI", head)
            if _masked(head[:8]) != check or length > LARGEST:
                _broken(path, at, "is damaged")
            if at + 16 + length > size:
                _broken(path, at, "is cut off")
            data = stream.read(length)
            if _masked(data) != struct.unpack("<I", stream.read(4))[0]:
                _broken(path, at, "is damaged")
            at += 16 + length


def _broken(path: Path, at: int, how: str) -> None:
    raise NotFound(
        f"{path.name} {how} at byte {at}: what was logged last cannot be read", where=WHERE,
        hint="let the program close its SummaryWriter",
    )  # fmt: skip


@cache
def _table() -> Sequence[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def _masked(data: bytes) -> int:
    """CRC-32C as event files carry it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
