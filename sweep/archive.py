"""A run directory as one zip: the directory itself, its page, its frames, and an RO-Crate description of all of it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from sweep.errors import StoreError
from sweep.export import export
from sweep.report import html
from sweep.store import Store, atomic
from sweep.store.archive import is_bomb
from sweep.store.attempt import is_checkpoint
from sweep.store.names import EVENTS, MANIFEST, MEMBERS

CRATE = "ro-crate-metadata.json"
KINDS = {".json": "application/json", ".jsonl": "application/jsonl", ".csv": "text/csv", ".html": "text/html",
         ".txt": "text/plain", ".npz": "application/zip", ".safetensors": "application/octet-stream"}  # fmt: skip


def pack(store: Store, out: Path) -> int:
    """Write `out`, which reading commands and `sweep.open` accept like the directory; return the number of files.

    The zip appears whole or not at all. Checkpoints are left out, because they only serve to resume a run here.
    Raises: StoreError if `out` cannot be written or a launch is at work.
    """
    if store.owner() is not None:
        raise StoreError("a command is training runs here", where=store.shown, hint="wait until it has ended")
    try:
        with TemporaryDirectory() as folder:
            made = Path(folder)
            (made / "report.html").write_text(html.page(store), encoding="utf-8")
            export(store, "csv", made / "frames")
            added = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*")) if path.is_file()}
            files = {**dict(_own(store.path)), **added}
            atomic.write(out, lambda stream: _written(stream, files, store))
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror})", where=str(out), hint="choose another --out"
        ) from error
    return len(files) + 1


def _written(stream: IO[bytes], files: Mapping[str, Path], store: Store) -> None:
    """Write the zip. Raises: StoreError for sparse files, because a reader would refuse the zip."""
    entries, size = [], 0
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            digest, begun = hashlib.sha256(), size
            with atomic.opened(path) as source, archive.open(name, "w", force_zip64=True) as sink:
                while data := source.read(1 << 20):
                    size += len(data)
                    if is_bomb(size, stream.tell()):
                        raise StoreError(
                            "is a sparse file, much larger than its content", where=str(path), hint="remove it"
                        )
                    digest.update(data)
                    sink.write(data)
            entries.append({
                "@id": name, "@type": "File", "encodingFormat": KINDS.get(path.suffix, "application/octet-stream"),
                "contentSize": str(size - begun), "sha256": digest.hexdigest(),
            })  # fmt: skip
        archive.writestr(CRATE, json.dumps(crate(store, entries), indent=2) + "\n")


def _own(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a run directory by their relative names; no links, locks, temporary files or checkpoints."""
    for path in (root / MANIFEST, root / EVENTS, *sorted((root / MEMBERS).rglob("*"))):
        hidden = path.name.startswith(atomic.TEMPORARY) or is_checkpoint(path)
        if path.is_file() and not path.is_symlink() and not hidden and path.resolve().is_relative_to(root.resolve()):
            name = path.relative_to(root).as_posix()
            yield name.encode(errors="backslashreplace").decode(), path  # names in a zip are UTF-8


def crate(store: Store, entries: Sequence[Mapping[str, str]]) -> dict[str, object]:
    """Return the RO-Crate 1.1 description: the data set, its files with sha256, and the software that made it."""
    seeds = ", ".join(map(str, store.manifest.seeds))
    root = {
        "@id": "./", "@type": "Dataset", "name": store.manifest.name,
        "description": f"Runs of one experiment with seeds {seeds}.",
        "datePublished": datetime.now(UTC).date().isoformat(), "license": "to be chosen by the authors",
        "hasPart": [{"@id": entry["@id"]} for entry in entries],
        "mainEntity": {"@id": MANIFEST}, "instrument": {"@id": "#sweep"},
    }  # fmt: skip
    about = {
        "@id": CRATE, "@type": "CreativeWork", "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }  # fmt: skip
    software = {"@id": "#sweep", "@type": "SoftwareApplication", "name": "sweep", "version": version("seed-sweep")}
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": [about, root, software, *entries]}
