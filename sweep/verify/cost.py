"""The cost of deterministic mode for a run on this machine: both modes are timed in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from sweep.errors import SweepError
from sweep.job import Job
from sweep.plan import RunSpec
from sweep.verify.process import Process, Request, Trained, as_json

FAST = "fast"
DETERMINISTIC = "deterministic"
WIDTHS = 16, 64
MODES: Mapping[str, tuple[bool, bool]] = {  # name -> (deterministic, fill of new memory)
    FAST: (False, False),
    DETERMINISTIC: (True, False),
    "deterministic, memory filled": (True, True),
}
ROUNDS = 7
SECONDS = 0.7  # of one mode in one round
TRIAL = 12
WARM = 2  # steps that do not count, because the first ones allocate memory and select kernels


@dataclass(frozen=True)
class Cost:
    """The result of a timing.

    ms: median milliseconds per step of each mode. speed: the speed of each mode relative to fast, (low, median, high)
    over the ratios of the rounds. vectorized: by width, the milliseconds per seed and step, or the reason why a recipe
    cannot be trained in that width.
    """

    key: str
    device: str
    threads: int
    torch: str
    ms: Mapping[str, float]
    speed: Mapping[str, tuple[float, float, float]]
    rounds: int
    vectorized: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        s = "s" * (self.threads > 1)
        lines = [f"{self.key} on {self.device}, {self.threads} thread{s}, torch {self.torch}, {self.rounds} rounds:"]
        for mode, value in self.ms.items():
            low, middle, high = self.speed[mode]
            of = "" if mode == FAST else f"   {middle:.2f} times as fast as fast mode ({low:.2f} to {high:.2f})"
            lines.append(f"  {mode:<29} {value:8.3f} ms per step{of}")
        for width, each in self.vectorized.items():
            name = f"vectorize={width}"
            if isinstance(each, str):
                lines.append(f"  {name:<29} not possible: {each}")
            else:
                gain = self.ms[DETERMINISTIC] / each
                lines.append(
                    f"  {name:<29} {each:8.4f} ms per seed and step   {gain:.1f} times as fast as deterministic mode"
                )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return as_json(**asdict(self))


def cost(spec: RunSpec, job: Job, *, steps: int | None = None) -> Cost:
    """Time both modes in turns, and vectorised steps of a recipe.

    steps: steps of each mode in each round; None: as many as take most of a second.

    Raises: SweepError for a command, or if the run fails or makes no visible steps.
    """
    if spec.target.kind == "command":
        raise SweepError("the steps of a program cannot be timed", where="--cost", hint="time a recipe or a function")
    asked = Request(replace(spec, vectorize=0), job, steps)
    with Process(asked, where="the timing process", function="sweep.verify.cost:timed") as process:
        made = process.wait()
    if made.failure is not None:
        raise SweepError(f"the run failed: {made.failure}", where=spec.key)
    paces = {entry["mode"]: [float(ms) for ms in entry["ms"]] for entry in made.found if "mode" in entry}
    if made.steps < 3 or not all(ms > 0 for each in paces.values() for ms in each):
        raise SweepError("the run has too few optimizer steps to time", where=spec.key)
    found = summed(spec, paces, str(made.environment.get("torch", "")))
    wide = {str(entry["width"]): entry["ms"] for entry in made.found if "width" in entry}
    return replace(found, vectorized=wide)


def summed(spec: RunSpec, paces: Mapping[str, Sequence[float]], torch: str) -> Cost:
    """Return the cost from the milliseconds per step of each mode, one value per round."""
    speed = {}
    for mode, each in paces.items():
        ratios = [fast / own for fast, own in zip(paces[FAST], each, strict=True)]
        speed[mode] = (min(ratios), median(ratios), max(ratios))
    ms = {mode: median(each) for mode, each in paces.items()}
    return Cost(spec.key, spec.device, spec.threads, torch, ms, speed, len(paces[FAST]))


def timed(request: Request, folder: Path, *, where: str) -> Trained:
    """Train in this process, and return the milliseconds per step of each mode, one value per round: {"mode", "ms"}.

    For a recipe, also return the milliseconds per seed and step in each width, or why there are none: {"width", "ms"}.
    The order of the modes is reversed every second round, so that a machine that slows down affects them equally.
    """
    from sweep.verify.rehearse import rehearse  # loads torch, which the calling process does not need

    def train(mode: str, steps: int, name: str) -> Trained:
        deterministic, fill = MODES[mode]
        spec, job = replace(request.spec, deterministic=deterministic), replace(request.job, fill_memory=fill)
        asked = replace(request, spec=spec, job=job, steps=steps)
        return rehearse(asked, folder / name, where=where, digests=False)

    modes = list(MODES)
    steps = request.steps
    if steps is None:
        marks = train(modes[-1], TRIAL, "trial").marks
        steps = max(TRIAL, min(5000, round(SECONDS / (_pace(marks) if len(marks) > WARM + 1 else 1.0))))
    paces: dict[str, list[float]] = {mode: [] for mode in modes}
    for number in range(ROUNDS):
        for mode in modes if number % 2 == 0 else reversed(modes):
            last = train(mode, steps, f"{number}-{modes.index(mode)}")
            if last.failure is not None:
                return last
            paces[mode].append(1000 * _pace(last.marks))
    found: list[dict[str, Any]] = [{"mode": mode, "ms": each} for mode, each in paces.items()]
    if request.spec.target.kind == "recipe":
        found += [{"width": width, "ms": _vectorized(request, folder, width)} for width in WIDTHS]
    return replace(last, found=tuple(found))


def _vectorized(request: Request, folder: Path, width: int) -> float | str:
    """Return the milliseconds per seed and step in a width, or the reason why the recipe cannot be trained in it."""
    from sweep.determinism import seeding
    from sweep.target.function import find
    from sweep.target.params import bind
    from sweep.train.vector import pace
    from sweep.verify.rehearse import scratch_run

    spec = replace(request.spec, deterministic=True)
    run = scratch_run(spec, folder / f"width{width}", rehearsal=True)
    try:
        with seeding.restored():
            seeding.set_threads(spec.threads)
            seeding.fill_memory(False)
            seeding.seed_everything(spec.seed, deterministic=True)
            recipe = find(spec.target.reference)
            made = recipe(**bind(recipe, spec.params, kind="recipe"))
            return 1000 * pace(made, run, width, seconds=SECONDS) / width
    except SweepError as error:
        return str(error)
    finally:
        run.attempt.close()


def _pace(marks: tuple[float, ...]) -> float:
    """Return the seconds per step, without the first steps."""
    kept = marks[WARM:] if len(marks) > WARM + 1 else marks
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else float("nan")
