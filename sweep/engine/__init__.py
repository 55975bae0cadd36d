"""Engines pull tasks and yield what became of them; they know nothing of training."""

from sweep.engine.event import Done, Engine, Event, Gone, Lost, Pull, Slots, Tick, Work
from sweep.engine.inline import inline
from sweep.engine.on_ray import RayEngine, job_address, require_memory

__all__ = [
    "Done",
    "Engine",
    "Event",
    "Gone",
    "Lost",
    "Pull",
    "RayEngine",
    "Slots",
    "Tick",
    "Work",
    "inline",
    "job_address",
    "require_memory",
]
