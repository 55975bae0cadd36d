"""The benchmark of overhead: it calls inner functions of workers, whose changes no type check finds there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_function_is_timed_in_a_process_of_its_own_and_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # to come back from the folder that a worker enters, which is then removed
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    try:
        import overhead

        assert all(seconds > 0 for seconds in overhead.forked_and_not(2))
    finally:
        sys.modules.pop("overhead", None)
