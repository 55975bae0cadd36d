"""What an engine is given and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sweep.job import Answer, Bundle, Job

Work = Callable[[Bundle], Answer]  # trains the runs of a bundle and commits their records
Pull = Callable[[], Bundle | None]  # the next bundle, or None for none at present


@dataclass(frozen=True)
class Done:
    """A bundle that has ended. The directory tells what became of its runs, and the answer what the directory cannot.

    If its worker died, the answer is an `Accident` of the engine's.
    """

    bundle: Bundle
    answer: Answer


@dataclass(frozen=True)
class Gone:
    """The engine itself is no longer there, with whatever was running: its last event."""

    cause: str


@dataclass(frozen=True)
class Tick:
    """Nothing ended lately: a moment to look at what is under way, as a notebook does."""


Event = Done | Gone | Tick
Engine = Callable[[Pull, Work, Job], Iterator[Event]]  # of a job it asks what a bundle needs, and how many run at once
