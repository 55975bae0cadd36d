"""The events of a launch, for whatever shows them."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.engine import Tick
from sweep.store import Record, Store


@dataclass(frozen=True)
class Begun:
    """The directory is ours; so many runs are planned, done already, and to do."""

    store: Store
    planned: int
    done: int
    todo: int
    extended: tuple[int, ...] = ()  # seeds that join those that were there
    grown: int = 0  # variants that do
    failed: int = 0  # of those done

    @property
    def nothing(self) -> str:
        """Return what is said where nothing is to do."""
        if self.planned == 1:
            said = f"nothing to train: this run is in {self.store.shown}"
        else:
            said = f"nothing to train: all {self.planned} runs are in {self.store.shown}"
        return f"{said}; {self.failed} failed, which --retry-failed trains again" if self.failed else said


@dataclass(frozen=True)
class Finished:
    """One run has ended, with a record."""

    key: str
    record: Record


@dataclass(frozen=True)
class Retried:
    """A run was lost; it is trained again, from its newest checkpoint if it has one (step), else from zero."""

    key: str
    cause: str
    attempt: int
    checkpoint: int | None = None


@dataclass(frozen=True)
class Said:
    """Something worth a line on the screen."""

    text: str


Event = Begun | Finished | Retried | Said | Tick
