"""TensorBoard's event files: every record is checked. Names omit folders that are named differently in each run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any

from sweep.errors import EnvironmentRefused
from sweep.metrics.rows import NotFound, Row
from sweep.store import atomic

WHERE = "collect.tensorboard"
LARGEST = 256 << 20  # bytes of a record
_MACHINE_MADE = re.compile(r"\d{6,}(\.\d+)?|version_\d+|.*\d{2}[-_:]\d{2}[-_:]\d{2}.*|.*\d{8,}.*")


def require() -> None:
    """Check that the package that parses events is installed. Raises: EnvironmentRefused."""
    if find_spec("tensorboard") is None:
        raise EnvironmentRefused(
            "TensorBoard files cannot be read without the package tensorboard", where=WHERE,
            hint='pip install "seed-sweep[tensorboard]"',
        )  # fmt: skip


def event_files(folder: Path) -> list[Path]:
    """Return the event files below a folder, in order."""
    found = (Path(top, file) for top, _, files in os.walk(folder) for file in files if "tfevents" in file)
    return sorted(path for path in found if path.is_file())


def rows(folder: Path, fresh: Callable[[Path], bool], *, seed: str, at_work: bool) -> list[Row]:
    """Return a row for each (step, tag) of the event files below `folder`, with the folder's name before the tag.

    A folder that is named after a time, a version or the seed is left out of the name: otherwise the same metric would
    have another name in each run. fresh: whether this run wrote a file. at_work: a file may be incomplete.

    Raises: NotFound if a file is broken or cut, or two folders hold the same metric.
    """
    require()
    found: list[dict[str, Any]] = []
    places: dict[str, tuple[int, Path]] = {}
    files = [path for path in event_files(folder) if fresh(path)]
    for path in files:
        parts = path.parent.relative_to(folder).parts
        named = (_without(seed, part) for part in parts if not _MACHINE_MADE.fullmatch(part))
        words = [part for part in named if part]
        for step, tag, value in _scalars(path, at_work=at_work):
            name = "/".join((*words, tag))
            depth, place = places.setdefault(name, (len(parts), path.parent))
            if place != path.parent and depth == len(parts):
                raise NotFound(
                    f"{name!r} is in two folders, {place.name} and {path.parent.name}", where=WHERE,
                    hint="name one of them: --metrics tensorboard:FOLDER",
                )  # fmt: skip
            if place == path.parent:
                found.append({"step": step, name: value})
    if not found:
        raise NotFound(f"there are no scalars in the {len(files)} event files of {folder}", where=WHERE)
    return sorted(found, key=lambda row: row["step"])


def _without(seed: str, part: str) -> str:
    """Return the name of a folder without the seed: `ppo` for `ppo_seed3`, nothing for `3`."""
    return "" if part == seed else re.sub(rf"(?i)[-_.,]*seed[-_=]?0*{seed or '-'}(?!\d)", "", part)


def _scalars(path: Path, *, at_work: bool) -> Iterator[tuple[int, str, float]]:
    """Yield (step, tag, value) of each number. Raises: NotFound if a record is damaged or holds no event."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util import tensor_util

    for record in _records(path, at_work=at_work):
        try:
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.tag == "hp_metric":  # Lightning's placeholder
                    continue
                if value.HasField("simple_value"):
                    yield int(event.step), str(value.tag), float(value.simple_value)
                elif value.HasField("tensor"):
                    array = tensor_util.make_ndarray(value.tensor)
                    if array.size == 1 and array.dtype.kind in "fiu":
                        yield int(event.step), str(value.tag), float(array.item())
        except Exception as error:  # protobuf and NumPy have exceptions of their own
            raise NotFound(f"{path.name} cannot be read: {error}", where=WHERE) from error


def _records(path: Path, *, at_work: bool) -> Iterator[bytes]:
    """Yield the records of a file, up to the first incomplete one if the program is at work.

    Raises: NotFound at the first wrong checksum, where TensorBoard's own loader would end silently.
    """
    with atomic.opened(path.resolve()) as stream:
        while stream.peek(1):
            at = stream.tell()
            try:
                record = _checked(stream, int.from_bytes(_checked(stream, 8), "little"))
            except ValueError as error:
                if at_work:
                    return
                raise NotFound(
                    f"{path.name} {error} at byte {at}: the values logged last cannot be read", where=WHERE,
                    hint="have the program close its SummaryWriter",
                ) from None  # fmt: skip
            yield record


def _checked(stream: BufferedReader, size: int) -> bytes:
    """Return this many bytes, checked by the checksum that follows them. Raises: ValueError."""
    from tensorboard.summary.writer.record_writer import masked_crc32c

    if size > LARGEST:
        raise ValueError("is damaged")
    data = stream.read(size + 4)
    if len(data) < size + 4:
        raise ValueError("is cut off")
    if masked_crc32c(data[:size]) != int.from_bytes(data[size:], "little"):
        raise ValueError("is damaged")
    return data[:size]
