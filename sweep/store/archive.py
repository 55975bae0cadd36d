"""A packed run directory: a zip that is unpacked into a folder of this machine before it is read."""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sweep.errors import StoreError
from sweep.store import atomic
from sweep.store.names import EVENTS, MANIFEST, MEMBERS, NO_SWEEP

MOST = 8 << 30  # bytes that a zip may unpack to
RATIO = 200  # unpacked bytes per packed byte
FILES = 4_000_000
TRUST = "if you trust it, unpack it yourself and name the folder"


def is_packed(place: str | os.PathLike[str]) -> bool:
    """Return whether `place` is a file whose name ends in .zip."""
    return os.fspath(place).endswith(".zip") and os.path.isfile(place)


def unpacked(path: Path, cache: Path) -> Path:
    """Return a folder below `cache` with the run directory in a zip. Equal content gives the same folder.

    Only sweep.json, events.jsonl and the files below members/ are unpacked: no links, no absolute names, no `..`.
    Raises: StoreError if the zip is damaged, holds no sweep, or unpacks to too many bytes.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.stem)[:40]
    try:
        with atomic.opened(path) as stream, zipfile.ZipFile(stream) as archive:
            chosen = _chosen(archive, path, os.fstat(stream.fileno()).st_size)
            stream.seek(0)
            # The digest covers all bytes: the checksums in the table of a zip can be forged.
            folder = cache / f"{name}-{atomic.stream_digest(stream)[:12]}"
            if not (folder / MANIFEST).exists():
                _unpack(archive, chosen, folder)
    except StoreError:
        raise
    except Exception as error:  # zipfile and each of its codecs raise different exceptions
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise StoreError(f"cannot be unpacked ({why})", where=str(path), hint="download or copy it again") from error
    return folder


def _unpack(archive: zipfile.ZipFile, chosen: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    """Unpack into a folder beside `folder` and rename it, so that `folder` appears complete."""
    partial = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    try:
        for item in chosen:
            target = partial / PurePosixPath(item.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(item) as source, target.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        partial.rename(folder)
    except OSError:
        if not (folder / MANIFEST).exists():  # otherwise another command has unpacked it at the same time
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _chosen(archive: zipfile.ZipFile, path: Path, packed: int) -> list[zipfile.ZipInfo]:
    """Return the entries to unpack. packed: the size of the zip, because the sizes that it states may be wrong.

    Raises: StoreError if it holds no sweep, unpacks to too many bytes, or consists mostly of bytes of no entry, which
    would all be read for the digest.
    """
    items = archive.infolist()
    if len(items) > FILES:
        raise StoreError(f"holds more than {FILES:,} files", where=str(path))
    chosen = [item for item in items if _ours(item)]
    if MANIFEST not in {item.filename for item in chosen}:
        raise StoreError(NO_SWEEP, where=str(path))
    size = sum(item.file_size for item in chosen)
    if size > MOST or is_bomb(size, packed):
        raise StoreError(
            f"its {packed:,} bytes would unpack to {size:,}, which is more than sweep unpacks",
            where=str(path),
            hint=TRUST,
        )
    held = sum(item.compress_size for item in items)
    if packed > MOST or packed > 2 * held + (64 << 20):
        raise StoreError(f"only {held:,} of its {packed:,} bytes belong to files", where=str(path), hint=TRUST)
    return chosen


def is_bomb(size: int, packed: int) -> bool:
    """Return whether `size` bytes are too many to be unpacked from `packed` bytes."""
    return size > RATIO * max(packed, 1 << 16)


def _ours(item: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(item.filename)
    mode = item.external_attr >> 16
    if item.is_dir() or stat.S_ISLNK(mode) or name.is_absolute() or ".." in name.parts or "\\" in item.filename:
        return False
    return item.filename in (MANIFEST, EVENTS) or name.parts[0] == MEMBERS
