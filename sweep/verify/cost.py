"""Fast and deterministic mode timed side by side: what deterministic mode costs this run on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from sweep.errors import SweepError
from sweep.job import Job
from sweep.plan import RunSpec
from sweep.store import atomic
from sweep.verify.process import Process, Request, Trained

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
WARM = 2  # steps that do not count: the first ones allocate and choose


@dataclass(frozen=True)
class Cost:
    """ms: median milliseconds a step of each mode; speed: of each mode, as a share of fast, (low, median, high)
    over the rounds, each round a ratio of its own.

    vectorized: by width, the milliseconds of a seed and step, or why a recipe cannot be trained in that width.
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
            of = "" if mode == FAST else f"   {middle:.2f} of fast ({low:.2f} to {high:.2f})"
            lines.append(f"  {mode:<29} {value:8.3f} ms a step{of}")
        for width, each in self.vectorized.items():
            name = f"vectorize={width}"
            if isinstance(each, str):
                lines.append(f"  {name:<29} no: {each}")
            else:
                gain = self.ms[DETERMINISTIC] / each
                lines.append(f"  {name:<29} {each:8.4f} ms a seed and step   {gain:.1f} times as fast as deterministic")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = atomic.strict(asdict(self))
        return plain


def cost(spec: RunSpec, job: Job, *, steps: int | None = None) -> Cost:
    """Time both modes in turns, and vectorised steps of a recipe.

    steps: of each mode in each round; None: what takes most of a second.

    Raises: SweepError for a command, or when the run fails or makes no steps that can be seen.
    """
    if spec.target.kind == "command":
        raise SweepError("the steps of a program cannot be seen", where="--cost", hint="time a recipe or a function")
    asked = Request(replace(spec, vectorize=0), job, steps)
    with Process(asked, where="the timing process", task="sweep.verify.cost:timed") as process:
        made = process.wait()
    if made.failure is not None:
        raise SweepError(f"the run fails: {made.failure}", where=spec.key)
    rounds = [entry for entry in made.found if "mode" in entry]
    if not all(entry["ms"] > 0 for entry in rounds if isinstance(entry["ms"], float)) or made.steps < 3:
        raise SweepError("too few optimizer steps were seen to time", where=spec.key)
    found = summed(spec, rounds, str(made.environment.get("torch", "")))
    wide = {str(entry["width"]): entry["ms"] for entry in made.found if "width" in entry}
    return replace(found, vectorized=wide)


def summed(spec: RunSpec, found: Sequence[Mapping[str, Any]], torch: str) -> Cost:
    """Return the medians of what `timed` measured."""
    rounds: dict[int, dict[str, float]] = {}
    for entry in found:
        rounds.setdefault(entry["round"], {})[entry["mode"]] = float(entry["ms"])
    ms, speed = {}, {}
    for mode in next(iter(rounds.values())):
        ms[mode] = median(each[mode] for each in rounds.values())
        ratios = [each[FAST] / each[mode] for each in rounds.values()]
        speed[mode] = (min(ratios), median(ratios), max(ratios))
    return Cost(spec.key, spec.device, spec.threads, torch, ms, speed, len(rounds))


def timed(request: Request, folder: Path, *, where: str) -> Trained:
    """Train in this process, and find the milliseconds a step of each mode in each round: {"round", "mode", "ms"}.

    Of a recipe also those of a seed and step in each width, or why there are none: {"width", "ms"}.
    Modes alternate, in turned order every second round, so that a machine that slows down slows down all.
    """
    from sweep.verify.rehearse import rehearse  # loads torch, which the asking end does without

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
    found = []
    for number in range(ROUNDS):
        for mode in modes if number % 2 == 0 else reversed(modes):
            last = train(mode, steps, f"{number}-{modes.index(mode)}")
            if last.failure is not None:
                return last
            found.append({"round": number, "mode": mode, "ms": 1000 * _pace(last.marks)})
    if request.spec.target.kind == "recipe":
        found += [{"width": width, "ms": _vectorized(request, folder, width)} for width in WIDTHS]
    return replace(last, found=tuple(found))


def _vectorized(request: Request, folder: Path, width: int) -> float | str:
    """Return the milliseconds of a seed and step in this width, or why the recipe cannot be trained in it."""
    from sweep.determinism import seeding
    from sweep.handle import Run
    from sweep.store import Attempt
    from sweep.store.owner import this_process
    from sweep.target.function import find
    from sweep.target.params import bind
    from sweep.train.vector import pace

    spec = replace(request.spec, deterministic=True)
    place = folder / f"width{width}"
    place.mkdir()
    attempt = Attempt(place, spec.id, this_process(), number=1)
    try:
        with seeding.restored():
            seeding.set_threads(spec.threads)
            seeding.fill_memory(False)
            seeding.seed_everything(spec.seed, deterministic=True)
            recipe = find(spec.target.reference)
            made = recipe(**bind(recipe, spec.params, kind="recipe"))
            return 1000 * pace(made, Run(spec, attempt, rehearsal=True), width, seconds=SECONDS) / width
    except SweepError as error:
        return str(error)
    finally:
        attempt.close()


def _pace(marks: tuple[float, ...]) -> float:
    """Return the seconds a step, the first few left out."""
    kept = marks[WARM:] if len(marks) > WARM + 1 else marks
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else float("nan")
