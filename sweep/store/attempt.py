"""One attempt at a run: a folder of its own, to which everything is written before the record names it."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sweep.errors import SweepError
from sweep.store import atomic, history, lock, names, predictions
from sweep.store.masking import masked
from sweep.store.names import filled
from sweep.store.owner import Owner
from sweep.store.predictions import Arrays
from sweep.store.record import Artifact
from sweep.textfile import Stat, stat_of

LOG_LIMIT = 16 << 20  # bytes of a run's log: the beginning and the newest lines are kept
KEPT_CHECKPOINTS = 2
_WRITING = threading.Lock()  # of rows: a thread of the user's code may still log while its run ends


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is one of our checkpoints: training code may name its own files `checkpoint-500`."""
    return re.fullmatch(rf"{names.CHECKPOINT}\d{{9,}}\.(pt|json)", path.name) is not None


def checkpoints_in(folder: Path) -> list[Path]:
    """Return our checkpoints and their descriptions in the folder of an attempt, oldest first."""
    return sorted(filter(is_checkpoint, folder.glob(f"{names.CHECKPOINT}*")))


def is_result(name: str) -> bool:
    """Return whether a file holds results that we read. All other files in an attempt are the user's own."""
    saved = any(filled(pattern, name) is not None for pattern in (names.PREDICTIONS, names.SCORES))
    return saved or name in (names.HISTORY, names.MODEL, names.MODEL_ABOUT)


def stamps(folder: Path) -> dict[str, Stat]:
    """Return the state of every file and link below a folder, by its relative name."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*files, *(each for each in folders if os.path.islink(os.path.join(top, each)))):
            path = os.path.join(top, name)
            found[os.path.relpath(path, folder)] = stat_of(path, follow=False)
    return found


@dataclass
class Attempt:
    """The folder of one attempt. previous: the folders of earlier attempts, newest first, to resume from."""

    path: Path
    spec_id: str
    owner: Owner
    number: int
    previous: tuple[Path, ...] = ()
    secrets: tuple[bytes, ...] = field(default=(), repr=False)  # never shown in its log and its record
    _masked: int = field(default=0, repr=False)  # bytes of its log that were already searched for them
    _shared: dict[str, Stat] | None = field(default=None, repr=False)
    _history: atomic.Appender | None = field(default=None, repr=False)
    _ended: bool = field(default=False, repr=False)  # its files are hashed, and nothing may be added

    @property
    def nonce(self) -> str:
        return self.path.name.removeprefix(names.ATTEMPT)

    @property
    def recorded(self) -> bool:
        """Return whether its run has a record, of this attempt or of another that was first."""
        return (self.path.parent / names.RECORD).exists()

    def log_row(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a row to history.jsonl. Readers see it at once. It becomes durable with the record.

        Raises: SweepError once the run has ended.
        """
        line = history.line(step, metrics).encode()
        with _WRITING:
            self._require_open(names.HISTORY)
            if self._history is None:
                self._history = atomic.Appender(self.path / names.HISTORY)  # open for as long as the attempt lives
            self._history.write(line)

    def _require_open(self, name: str) -> None:
        if self._ended:
            raise SweepError(
                f"{name} was written to after the run had ended", where=str(self.path),
                hint="let the training code wait for threads that still write before it returns",
            )  # fmt: skip

    def forget_history(self) -> None:
        """Remove history.jsonl, to write it again from the start."""
        self.close()
        (self.path / names.HISTORY).unlink(missing_ok=True)

    def close(self) -> None:
        if self._history is not None:
            self._history.close()
            self._history = None

    def write(self, name: str, data: bytes | Callable[[IO[bytes]], None]) -> None:
        """Write an artefact, which `artifacts` makes durable. Raises: SweepError once the run has ended."""
        self._require_open(name)
        atomic.write(self.path / name, data, durable=False)

    def write_arrays(self, name: str, made: Arrays) -> None:
        """Write predictions or scores."""
        self.write(name, lambda stream: predictions.write(stream, made.arrays()))

    def declare(self, **more: Any) -> None:
        """Write the owner of the attempt to its folder. The attempt counts as running while that process lives."""
        about = {**self.owner.to_json(), "number": self.number, "spec_id": self.spec_id, **more}
        atomic.write(self.path / names.ABOUT, atomic.encoded(about), durable=False)

    def abandon(self, *, stopped: bool = False) -> None:
        """End without a record, so that the attempt no longer counts as running.

        stopped: a stop was requested, and no worker died.
        """
        self.close()
        try:
            self.declare(pid=0, stopped=stopped)
        except OSError:  # a full disk still allows a removal, and an attempt without this file is not running either
            with suppress(OSError):
                (self.path / names.ABOUT).unlink(missing_ok=True)

    def hide(self, text: str) -> str:
        """Return a text with `***` in place of each known secret."""
        return masked(text.encode(errors="surrogatepass"), self.secrets).decode(errors="surrogatepass")

    def log_text(self, text: str) -> None:
        with atomic.Appender(self.path / names.LOG) as stream:
            stream.write(self.hide(text)[-LOG_LIMIT // 2 :].encode(errors="replace"))
        self.cut_log()

    def mask_log(self) -> None:
        """Overwrite the known secrets in the log of a process. In place, because the process holds it open."""
        path = self.path / names.LOG
        if not self.secrets or not path.exists():
            return
        longest = len(self.secrets[0])
        with path.open("rb", buffering=0) as stream, atomic.Editor(path) as file:
            while True:
                at = stream.seek(max(0, self._masked - longest))
                data = stream.read(1 << 20)
                for secret in self.secrets:
                    for found in re.finditer(re.escape(secret), data):
                        file.seek(at + found.start())
                        file.write(b"*" * len(secret))
                if at + len(data) <= self._masked:
                    break
                self._masked = at + len(data)

    def cut_log(self) -> None:
        """Cut the middle of a log that is too long. In place, because writers hold it open."""
        path = self.path / names.LOG
        if not path.exists() or path.stat().st_size <= LOG_LIMIT:
            return
        quarter = LOG_LIMIT // 4
        with path.open("rb") as stream, atomic.Editor(path) as file:
            head = stream.read(quarter)
            stream.seek(-quarter, os.SEEK_END)
            file.overwrite(head + b"\n[... cut ...]\n" + stream.read())
        self._masked = path.stat().st_size

    def share(self) -> Path:
        """Return the folder that all attempts at this run use in turn, with the files that earlier ones left in it.

        If an earlier attempt may still be running on another host, return the folder of this attempt.
        """
        folder = self.path.parent / names.WORK
        owners = [lock.read_owner(each / names.ABOUT) for each in self.previous]
        if folder.is_symlink() or any(owner is not None and owner.dead() is None for owner in owners):
            return self.path
        folder.mkdir(exist_ok=True)
        self._shared = stamps(folder)
        return folder

    @property
    def inherited(self) -> int:
        """Return the number of files that earlier attempts left in the shared folder."""
        return len(self._shared or ())

    def _gather(self) -> None:
        """Move files out of the shared folder: each goes to the attempt that wrote it."""
        before, self._shared = self._shared, None
        folder = self.path.parent / names.WORK
        if before is None or folder.is_symlink() or not folder.is_dir():
            return
        for name, stamp in stamps(folder).items():
            old = self.previous and before.get(name) == stamp
            target = (self.previous[0] if old else self.path) / name
            if target.exists() or target.is_symlink():
                target = target.with_name(f"own-{target.name}")  # this name is taken by a file of ours
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, target)
        for top, folders, _ in os.walk(folder):  # keep empty folders, too
            for name in folders:
                (self.path / os.path.relpath(os.path.join(top, name), folder)).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def artifacts(self) -> dict[str, Artifact]:
        """Return all files that the record will list, made durable and hashed. Checkpoints are not included.

        This ends the attempt: rows that a thread of the user's code logs later are refused.
        """
        with _WRITING:
            self._ended = True
            self.close()
        self._gather()
        found: dict[str, Artifact] = {}
        for path in sorted(self.path.iterdir()):
            if path.name in (names.LOG, names.ABOUT) or path.name.startswith(atomic.TEMPORARY) or is_checkpoint(path):
                continue
            if path.is_symlink() or not path.is_file():
                continue
            atomic.make_durable(path)
            found[path.name] = Artifact(atomic.file_digest(path), path.stat().st_size)
        atomic.make_durable(self.path)
        return found

    def write_checkpoint(self, step: int, content: bytes | memoryview, *, rows: int) -> None:
        """Write a checkpoint and the description that checks it. Older ones stay until it is complete."""
        if (self.path / names.HISTORY).exists():
            atomic.make_durable(self.path / names.HISTORY)
        path = self.path / f"{names.CHECKPOINT}{step:09d}.pt"
        atomic.write(path, content)
        about = {"sha256": atomic.bytes_digest(content), "spec_id": self.spec_id, "step": step, "rows": rows}
        atomic.write(path.with_suffix(".json"), atomic.encoded(about))
        for old in [each for each in checkpoints_in(self.path) if each.suffix == ".pt"][:-KEPT_CHECKPOINTS]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints, which are needed only while a run is unfinished."""
        for folder in (self.path, *self.previous):
            for path in checkpoints_in(folder):
                path.unlink(missing_ok=True)

    def checkpoints(self) -> Iterable[tuple[Path, dict[str, Any] | str]]:
        """Yield checkpoint files, newest first, each with its description or the reason to skip it."""
        for folder in (self.path, *self.previous):
            for path in reversed(checkpoints_in(folder)):
                if path.suffix == ".pt":
                    yield path, self._described(path)

    def _described(self, path: Path) -> dict[str, Any] | str:
        try:
            about = atomic.loads(atomic.read(path.with_suffix(".json"), 1 << 20))
            if about["spec_id"] != self.spec_id:
                return "it belongs to another run"
            if path.is_symlink() or atomic.file_digest(path) != about["sha256"]:
                return "its content has changed since it was written"
            return {"step": int(about["step"]), "rows": int(about["rows"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"its description cannot be read ({error})"

    def adopt_history(self, source: Path, rows: int) -> list[history.Row]:
        """Begin with the first `rows` rows of the history beside an adopted checkpoint, and return them."""
        self.close()
        kept = history.read(source / names.HISTORY)[:rows]
        data = history.encode((r["step"], {k: v for k, v in r.items() if k != "step"}) for r in kept)
        if data or (self.path / names.HISTORY).exists():
            atomic.write(self.path / names.HISTORY, data, durable=False)
        return kept
