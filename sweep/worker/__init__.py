"""The worker: a task becomes outcomes, each with its record. The same in every engine."""

from sweep.worker.work import in_child, ready, work

__all__ = ["in_child", "ready", "work"]
