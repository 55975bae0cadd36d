"""What an engine is given and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Task = tuple[Any, ...]  # of RunSpecs; an engine does not look inside
Work = Callable[[Task], list[Any]]  # trains a task's runs and commits them; returns their outcomes
Pull = Callable[[], Task | None]  # the next task, or None for none at present


@dataclass(frozen=True)
class Slots:
    """How much may run at once: `jobs` tasks (None: as many as fit), each with so many CPUs and GPUs."""

    jobs: int | None = None
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class Done:
    """A task whose worker lived to tell."""

    task: Task
    outcomes: tuple[Any, ...]


@dataclass(frozen=True)
class Lost:
    """A task whose worker died: what the disk says counts. `poison`: it may be the task's own doing."""

    task: Task
    cause: str
    poison: bool = True


@dataclass(frozen=True)
class Gone:
    """The engine itself is no longer there, with whatever was running: its last event."""

    cause: str


@dataclass(frozen=True)
class Tick:
    """Nothing ended lately; so many tasks are running."""

    running: int


Event = Done | Lost | Gone | Tick
Engine = Callable[[Pull, Work, Slots], Iterator[Event]]
