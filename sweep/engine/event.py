"""What an engine is given and what it yields; and the engine that needs nothing but this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sweep.job import Answer, Job, Pack

Work = Callable[[Pack], Answer]  # trains the runs of a pack and commits their records
Pull = Callable[[], Pack | None]  # the next pack, or None for none at present


@dataclass(frozen=True)
class Done:
    """A pack whose worker lived to tell."""

    pack: Pack
    answer: Answer


@dataclass(frozen=True)
class Lost:
    """A pack whose worker died: what the disk says counts. `poison`: it may be the doing of its runs."""

    pack: Pack
    cause: str
    poison: bool = True


@dataclass(frozen=True)
class Gone:
    """The engine itself is no longer there, with whatever was running: its last event."""

    cause: str


@dataclass(frozen=True)
class Tick:
    """Nothing ended lately; so many packs are running."""

    running: int


Event = Done | Lost | Gone | Tick
Engine = Callable[[Pull, Work, Job], Iterator[Event]]  # of a job it asks what a pack needs, and how many run at once


def inline(pull: Pull, work: Work, job: Job) -> Iterator[Event]:
    """Run one pack after the other in this process: the equal of Ray for small jobs, debugging and tests."""
    while (pack := pull()) is not None:
        yield Done(pack, work(pack))
