"""The events of a launch, which the command line and notebooks show."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.engine import Tick
from sweep.store import Record, Store


@dataclass(frozen=True)
class Begun:
    """The start of a launch, which has the directory to itself. planned, done, todo: numbers of runs."""

    store: Store
    planned: int
    done: int
    todo: int
    extended: tuple[int, ...] = ()  # new seeds
    grown: int = 0  # number of new variants
    failed: int = 0  # of `done`

    @property
    def nothing(self) -> str:
        """Return the message if there is nothing to do."""
        if self.planned == 1:
            said = f"nothing to train: this run is in {self.store.shown}"
        else:
            said = f"nothing to train: all {self.planned} runs are in {self.store.shown}"
        who, it = "it" if self.planned == 1 else self.failed, "it" if self.failed == 1 else "them"
        return f"{said}, but {who} failed; --retry-failed trains {it} again" if self.failed else said


@dataclass(frozen=True)
class Finished:
    """The end of one run, with its record."""

    key: str
    record: Record


@dataclass(frozen=True)
class Retried:
    """A lost run that is trained again, from its newest checkpoint (a step) or from zero."""

    key: str
    cause: str
    attempt: int
    checkpoint: int | None = None


@dataclass(frozen=True)
class Said:
    """A line for the screen."""

    text: str


Event = Begun | Finished | Retried | Said | Tick
