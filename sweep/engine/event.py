"""The interface of an engine: what it takes and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sweep.job import Answer, Bundle, Job

Work = Callable[[Bundle], Answer]  # trains the runs of a bundle and commits their records
Pull = Callable[[], Bundle | None]  # the next bundle, or None if there is none now


@dataclass(frozen=True)
class Done:
    """A bundle that has ended. The outcome of its runs is in the directory. The answer holds only what is not there.

    If its worker died, the answer is an `Accident` from the engine.
    """

    bundle: Bundle
    answer: Answer


@dataclass(frozen=True)
class Gone:
    """The end of the engine itself, with all that was running. This is its last event."""

    cause: str


@dataclass(frozen=True)
class Tick:
    """A moment in which nothing has ended, to show the progress of running runs."""


Event = Done | Gone | Tick
Engine = Callable[[Pull, Work, Job], Iterator[Event]]  # the job has what a bundle needs, and how many run at once
