"""Timing: the steps of fast and deterministic mode, taken in turns within one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.verify.rehearse import rehearse
from sweep.verify.request import Request, Trained

ROUNDS = 7
SECONDS = 0.7  # of one mode in one round
TRIAL = 12
WARM = 2  # steps that do not count: the first ones allocate and choose
MODES: Mapping[str, tuple[bool, bool]] = {  # name -> (deterministic, fill of new memory)
    "fast": (False, False),
    "deterministic": (True, False),
    "deterministic, memory filled": (True, True),
}


def timed(request: Request, *, where: str) -> Trained:
    """Milliseconds a step of each mode in each round: `found` holds {"round", "mode", "ms"}.

    Modes alternate, in turned order every second round, so that a machine that slows down slows down all.
    """
    steps = request.steps or _steps_for(request, where)
    found: list[Mapping[str, Any]] = []
    last: Trained | None = None
    for number in range(ROUNDS):
        for mode in list(MODES) if number % 2 == 0 else reversed(list(MODES)):
            last = _train(request, mode, steps, f"{number}-{mode[:4]}{len(mode)}", where)
            if last.failure is not None:
                return last
            found.append({"round": number, "mode": mode, "ms": 1000 * _pace(last.marks)})
    assert last is not None
    return replace(last, found=tuple(found))


def _steps_for(request: Request, where: str) -> int:
    trial = _train(request, "deterministic, memory filled", TRIAL, "trial", where)
    pace = _pace(trial.marks) if len(trial.marks) > WARM + 1 else 1.0
    return max(TRIAL, min(5000, round(SECONDS / pace)))


def _train(request: Request, mode: str, steps: int, name: str, where: str) -> Trained:
    deterministic, fill = MODES[mode]
    spec = replace(request.spec, deterministic=deterministic)
    place = replace(request.place, fill_memory=fill)
    folder = str(Path(request.path) / name)
    return rehearse(replace(request, spec=spec, place=place, path=folder, steps=steps), where=where)


def _pace(marks: tuple[float, ...]) -> float:
    """Seconds a step, the first few left out."""
    kept = marks[WARM:] if len(marks) > WARM + 1 else marks
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else float("nan")
