"""Find where in the model two runs part: train both side by side, with the digests of every module on a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.verify.process import Process, Request

TRIES = 3  # a difference that comes and goes may stay away once
POLL = 0.05


@dataclass(frozen=True)
class Culprit:
    """The first thing that two runs computed differently.

    step counts optimizer steps from 1; what: "output", "gradient of the output", "gradient" (of a parameter),
    "weights after the step", "input"; module: its path in the model, kind: its class; parameter: if one is meant.
    before: what was computed just before it, and was still equal.
    """

    step: int
    what: str
    module: str
    kind: str
    parameter: str = ""
    before: str = ""

    def __str__(self) -> str:
        of = f"parameter {self.parameter} of {self.module}" if self.parameter else self.module
        kind = f" ({self.kind})" if self.kind and self.kind != self.module else ""
        after = f", computed after the {self.before}, which is equal" if self.before else ""
        return f"step {self.step}: the {self.what} of {of}{kind}{after}"


def locate(request: Request, *, where: Path) -> Culprit | None:
    """Train twice, side by side, until the first tensor that differs. None: nothing did, in several tries."""
    for number in range(TRIES):
        pair = [
            replace(request, path=str(where / f"watched-{number}-{side}"), trace=str(where / f"trace-{number}-{side}"))
            for side in "ab"
        ]
        before = ""
        with Process(pair[0], where="a") as a, Process(pair[1], where="b") as b:
            for left, right in zip(_lines(pair[0], a), _lines(pair[1], b), strict=False):
                if left != right:
                    return replace(_culprit(left, right), before=before)
                before = f"{left[1]} of {left[2]}"
    return None


def _lines(request: Request, process: Process) -> Iterator[list[str]]:
    """Yield the lines of a trace as they are written, until its process has ended."""
    while not Path(request.trace).exists():
        if not process.running:
            return
        time.sleep(POLL)
    with open(request.trace, encoding="utf-8") as stream:
        rest, over = "", False
        while not over:
            over = not process.running  # asked before reading: what it wrote last is read as well
            *whole, rest = (rest + stream.read()).split("\n")
            yield from (line.split("\t") for line in whole)
            if not whole:
                time.sleep(POLL)


def _culprit(left: list[str], right: list[str]) -> Culprit:
    step, what, where, kind, _ = left
    if left[:4] != right[:4]:
        return Culprit(int(step), f"order of computation ({what} here, {right[1]} of {right[2]} there)", where, kind)
    if what in ("gradient", "weights after the step"):
        module, _, parameter = where.rpartition(".")
        return Culprit(int(step), what, module or "the model", kind, parameter)
    return Culprit(int(step), what, where, kind)
