"""Cost: what deterministic mode costs this run on this machine, measured side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sweep.errors import SweepError
from sweep.plan import RunSpec
from sweep.store import atomic
from sweep.task import Place
from sweep.verify.process import Process
from sweep.verify.request import Request

FAST = "fast"


@dataclass(frozen=True)
class Cost:
    """ms: median milliseconds a step of each mode; speed: of each mode, as a share of fast, (low, median, high)
    over the rounds, each round a ratio of its own."""

    key: str
    device: str
    threads: int
    torch: str
    ms: Mapping[str, float]
    speed: Mapping[str, tuple[float, float, float]]
    rounds: int

    def __str__(self) -> str:
        s = "s" * (self.threads > 1)
        lines = [f"{self.key} on {self.device}, {self.threads} thread{s}, torch {self.torch}, {self.rounds} rounds:"]
        for mode, value in self.ms.items():
            low, middle, high = self.speed[mode]
            of = "" if mode == FAST else f"   {middle:.2f} of fast ({low:.2f} to {high:.2f})"
            lines.append(f"  {mode:<29} {value:8.3f} ms a step{of}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = atomic.strict(asdict(self))
        return plain


def cost(spec: RunSpec, place: Place, *, steps: int | None = None) -> Cost:
    """Time both modes in turns. steps: of each mode in each round; None: what takes most of a second.

    Raises: SweepError for a command, or when the run fails or makes no steps that can be seen.
    """
    if spec.target.kind == "command":
        raise SweepError("the steps of a program cannot be seen", where="--cost", hint="time a recipe or a function")
    with tempfile.TemporaryDirectory(prefix="sweep-cost-") as scratch:
        request = Request(spec, place, path=str(Path(scratch) / "process"), steps=steps, task="cost")
        with Process(request, where="the timing process") as process:
            made = process.wait()
    assert made is not None
    if made.failure is not None:
        raise SweepError(f"the run fails: {made.failure}", where=spec.key)
    if not all(entry["ms"] > 0 for entry in made.found if isinstance(entry["ms"], float)) or made.steps < 3:
        raise SweepError("too few optimizer steps were seen to time", where=spec.key)
    return summed(spec, made.found, str(made.environment.get("torch", "")))


def summed(spec: RunSpec, found: Sequence[Mapping[str, Any]], torch: str) -> Cost:
    """The medians of what `sweep.verify.timing` measured."""
    rounds: dict[int, dict[str, float]] = {}
    for entry in found:
        rounds.setdefault(entry["round"], {})[entry["mode"]] = float(entry["ms"])
    modes = list(next(iter(rounds.values())))
    ms = {mode: median(each[mode] for each in rounds.values()) for mode in modes}
    speed = {}
    for mode in modes:
        ratios = [each[FAST] / each[mode] for each in rounds.values()]
        speed[mode] = (min(ratios), median(ratios), max(ratios))
    return Cost(spec.key, spec.device, spec.threads, torch, ms, speed, len(rounds))
