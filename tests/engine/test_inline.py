"""The engine in this process: tasks in order, one at a time, pulled only when needed."""

from __future__ import annotations

import pytest

from sweep.engine import Done, inline
from sweep.job import Job


def test_tasks_are_pulled_one_by_one_and_in_order() -> None:
    said: list[str] = []
    tasks = iter([(1,), (2, 3)])

    def pull() -> tuple[int, ...] | None:
        task = next(tasks, None)
        said.append(f"pull {task}")
        return task

    def work(task: tuple[int, ...]) -> list[int]:
        said.append(f"work {task}")
        return [10 * item for item in task]

    assert list(inline(pull, work, Job())) == [Done((1,), [10]), Done((2, 3), [20, 30])]
    assert said == ["pull (1,)", "work (1,)", "pull (2, 3)", "work (2, 3)", "pull None"]


def test_an_exception_of_ours_is_not_swallowed() -> None:
    def work(task: tuple[int, ...]) -> list[int]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(inline(lambda: (1,), work, Job()))
