"""The live view of a running sweep: progress, speed, time left, and the interval over the seeds so far.

A `View` is drawn in two ways: for a terminal of any size, and in a notebook cell. Interim intervals are no reason to
stop, and the view states that.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from rich.cells import cell_len

from sweep.number import around, number
from sweep.report.document import Item, Note, Table, distinct, notebook, of
from sweep.store import Member, Store
from sweep.variants import labels_of
from sweep.words import plural, shown

if TYPE_CHECKING:
    from rich.console import Group

ROWS = 12  # running seeds with a line each
ARMS = 8  # variants with a line each
MAP = 1200  # most runs with a mark each; for more, there is only a bar
WIDTHS = 16  # half-widths that are drawn, out of all since the second seed
TAIL = 600  # bytes at the end of a log in which its last line is looked for
BETWEEN = 0.5  # seconds between two updates of a cell
SO_FAR = "95 % CI over the seeds so far"
PEEKING = "interim; not a reason to stop"

MARKS = {
    "ok": ("■", "green"), "failed": ("×", "red"), "running": ("▸", "cyan"), "stopped": ("‖", "yellow"),
    "lost": ("?", "magenta"),
}  # fmt: skip
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Running:
    """A running seed with its newest logged row. of: its number of steps, if known.

    said: the last output of a run without a row, such as a program that logs no steps.
    """

    key: str
    step: int | None
    of: int | None
    metrics: tuple[tuple[str, float], ...]
    said: str = ""
    variant: str = ""  # its label, if there are several

    @property
    def seed(self) -> str:
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class Interim:
    """The headline metric of one variant over the seeds that have finished. widths: half-widths so far."""

    label: str
    metric: str
    n: int
    mean: float
    half: float | None
    widths: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """One moment of a sweep. elapsed, left: in seconds; rate: in runs per minute. None if not known yet."""

    name: str
    total: int
    ok: int
    failed: int
    marks: tuple[str, ...]
    running: tuple[Running, ...]
    flying: int
    interim: tuple[Interim, ...]
    elapsed: float
    left: float | None
    rate: float | None
    phase: str = ""

    @property
    def done(self) -> int:
        return self.ok + self.failed


@dataclass
class Tracker:
    """The tracker of the runs of a launch, which makes views of them."""

    name: str
    primary: str | None
    clock: Callable[[], float] = time.monotonic
    statuses: dict[str, str] = field(default_factory=dict)  # key -> status, in planned order
    started: float = 0.0  # when the launch began
    begun: float = 0.0  # when the first runs began
    ended: int = 0  # runs that ended since `begun`
    interims: dict[str, Interim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.started = self.clock()
        self._values: dict[str, dict[int, list[float]]] = {}

    def plan(self, keys: Iterable[str]) -> None:
        """Add planned runs; known ones keep their status."""
        for key in keys:
            self.statuses.setdefault(key, "pending")

    def seen(self, members: Iterable[Member]) -> list[Member]:
        """Update from a scan, and return the members whose runs ended since the last one."""
        fresh = []
        for member in members:
            before = self.statuses.get(member.key)
            if member.record is not None and before not in ("ok", "failed"):
                self._note(member.key, member.record.status, member.record.metrics)
                if before is not None:
                    self._work_since(member.record.seconds)
                    self.ended += 1
                fresh.append(member)
            self.statuses[member.key] = member.status
        return fresh

    def take(self, key: str, status: str, metrics: Mapping[str, float], seconds: float = math.inf) -> None:
        """Add a run that has just ended. seconds: how long it took, if known."""
        self._work_since(seconds)
        self.ended += 1
        self._note(key, status, metrics)

    def _work_since(self, seconds: float) -> None:
        """Measure from the start of the first run that ends, so that the start of Ray does not count."""
        if not self.ended:
            self.begun = max(self.begun, self.clock() - seconds)

    def _note(self, key: str, status: str, metrics: Mapping[str, float]) -> None:
        self.statuses[key] = status
        if status != "ok" or not metrics:
            return
        if self.primary is None or self.primary not in metrics:
            from sweep.analysis.frames import primary_metric

            self.primary = primary_metric(self.primary, list(metrics))
        value = metrics.get(self.primary, math.nan)
        if not math.isfinite(value):
            return
        arm, _, last = key.rpartition("/")
        seed = int("".join(c for c in last.partition("-")[0] if c.isdecimal()) or 0)
        values = self._values.setdefault(arm, {})
        values.setdefault(seed, []).append(value)
        # With many runs, only once per hundredth of them, because an update takes longer the more values there are.
        if len(values) <= 200 or len(values) % (len(values) // 100) == 0:
            from sweep.stats import summarise

            found = summarise([sum(v) / len(v) for v in values.values()])
            half = None if found.low is None or found.high is None else (found.high - found.low) / 2
            widths = self.interims[arm].widths if arm in self.interims else ()
            widths += () if half is None else (half,)
            self.interims[arm] = Interim(arm, self.primary, found.n, found.mean, half, widths)

    def view(self, running: Sequence[Running] = (), flying: int | None = None, phase: str = "") -> View:
        """Return the current view."""
        states = list(self.statuses.values())
        ok, failed = states.count("ok"), states.count("failed")
        elapsed = self.clock() - self.begun
        at_work = {row.key for row in running}
        share = sum(min(1.0, row.step / row.of) for row in running if row.step and row.of)
        marks = tuple("running" if key in at_work else state for key, state in list(self.statuses.items()))
        todo, gone = len(states) - ok - failed, self.ended + share
        called = self._called()
        return View(
            name=self.name, total=len(states), ok=ok, failed=failed,
            marks=marks if len(marks) <= MAP else (),
            running=tuple(replace(row, variant=called.get(row.key.rpartition("/")[0], "")) for row in running),
            flying=len(running) if flying is None else flying,
            interim=tuple(replace(found, label=called[arm]) for arm, found in self.interims.items()),
            elapsed=self.clock() - self.started,
            left=elapsed / gone * (todo - share) if gone > 0.02 and todo else None,
            rate=60 * self.ended / elapsed if self.ended and elapsed > 0 else None,
            phase="" if running else phase,
        )  # fmt: skip

    def _called(self) -> dict[str, str]:
        """Return the labels of variants, without the hash of their folder if they stay distinct."""
        arms = dict.fromkeys(key.rpartition("/")[0] for key in list(self.statuses))
        cells = {arm: (arm.rpartition("/")[0], arm.rpartition("/")[2]) for arm in arms}
        called = labels_of(cells.values())
        return {arm: called[cell] for arm, cell in cells.items()}


def steps_of(params: Mapping[str, Any]) -> int | None:
    """Return how many steps a run will log; None if its parameters name no epochs."""
    epochs = params.get("epochs")
    return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0 else None


def row_of(store: Store, member: Member, of: int | None) -> Running:
    """Return a running member with its newest row."""
    row = store.last_row(member)
    if row is None:
        return Running(member.key, None, of, (), _last_words(store, member))
    metrics = tuple((k, float(v)) for k, v in row.items() if k not in ("step", "lr"))
    # Held-out metrics come first, because they tell more than the training loss.
    ordered = sorted(metrics, key=lambda pair: pair[0].startswith("train/"))
    return Running(member.key, int(row["step"]), of, tuple(ordered[:3]))


def _last_words(store: Store, member: Member) -> str:
    """Return the last line of the log of a run, except the command at its head."""
    path = store.log(member)
    tail = ""
    if path is not None:
        with suppress(OSError), path.open("rb") as file:
            file.seek(-min(file.seek(0, os.SEEK_END), TAIL), os.SEEK_END)
            tail = file.read().decode(errors="replace")
    lines = [line.strip() for line in tail.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith(("$ ", "# "))), "")


def running(store: Store, keys: Iterable[str], most: int) -> list[Running]:
    """Return the newest row of each of these runs that is running, at most `most` rows."""
    steps = {folder: steps_of(cell["params"]) for folder, cell in store.manifest.cells.items()}
    found: list[Running] = []
    for key in sorted(keys):
        member = store.member(key)
        if member.status == "running":
            found.append(row_of(store, member, steps.get(key.rpartition("/")[0])))
        if len(found) == most:
            break
    return found


def spark(widths: Sequence[float]) -> str:
    """Return half-widths as a row of blocks, the widest highest; of many, a few at equal ratios of n, with the last."""
    if len(widths) > WIDTHS:
        ratio = len(widths) ** (1 / (WIDTHS - 1))
        widths = [widths[i] for i in sorted({round(ratio**k) - 1 for k in range(WIDTHS)})]
    top = max(widths, default=0.0)
    if len(widths) < 2 or not top > 0:
        return ""
    return "".join(BLOCKS[min(7, int(8 * width / top))] for width in widths)


def _arm(one: Interim) -> list[str]:
    """Return the name, the mean with its interval, and the number of seeds."""
    return [f"{one.label}: {one.metric}".removeprefix(": "), around(one.mean, one.half), str(one.n)]


def duration(seconds: float) -> str:
    """Return "41 s", "7 min" or "2.3 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def terminal(view: View, width: int, height: int, notice: str = "") -> Group:
    """Return the view for a terminal of this width and height; it is never taller."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    room = max(1, height - 7 - min(len(view.interim), ARMS))
    parts: list[Any] = []
    across = max(20, width - 4)
    lines = -(-len(view.marks) // across)
    if view.marks and len(view.marks) > ROWS and lines <= room // 2:
        parts.append(_map(view.marks, across))
        room -= lines + 1
    some = view.running[: max(1, min(ROWS, room))]
    parts += [Text(line, no_wrap=True, overflow="ellipsis") for line in _rows(some, width)]
    if view.flying > len(some) and some:
        parts.append(Text(f"and {view.flying - len(some)} more running", style="dim"))
    if some_arms := view.interim[:ARMS]:
        grid, arms = Grid.grid(padding=(0, 2)), [_arm(one) for one in some_arms]
        names = distinct([arm[0] for arm in arms], max(12, width - 44))
        for one, name, (_, value, n) in zip(some_arms, names, arms, strict=True):
            grid.add_row(Text(name, no_wrap=True, overflow="ellipsis"), Text(value, style="bold"), f"n = {n}",
                         Text(spark(one.widths), style="cyan"))  # fmt: skip
        more = f"and {len(view.interim) - ARMS} more variants; " if len(view.interim) > ARMS else ""
        parts += [grid, Text(f"{more}{SO_FAR} ({PEEKING})", style="dim", no_wrap=True)]
    parts.append(_total(view, width))
    if notice:
        parts.append(Text(notice, style="yellow"))
    return Group(*parts)


def _rows(running: Sequence[Running], width: int) -> list[str]:
    """Return a line for each run: the whole seed, a distinct variant name, and as many numbers as fit."""
    table = [cells(row) for row in running]
    seed, variant = (max((cell_len(row[i]) for row in table), default=0) for i in range(2))
    at = max((cell_len(row[2]) for row in table if len(row) > 3), default=0)
    if variant:
        names = distinct([row[1] for row in table], min(variant, max(12, width - seed - at - 30)))
        variant = max(map(cell_len, names))
        table = [[row[0], name, *row[2:]] for row, name in zip(table, names, strict=True)]
    wide = [seed, *([variant] if variant else []), at]
    found = []
    for row in table:
        kept = [row[0], *([row[1]] if variant else []), row[2]]
        line = "  ".join(cell + " " * max(0, room - cell_len(cell)) for cell, room in zip(kept, wide, strict=True))
        for cell in row[3:]:
            if cell_len(line) + 2 + cell_len(cell) <= width:
                line += f"  {cell}"
        found.append(line.rstrip())
    return found


def _total(view: View, width: int) -> Any:
    """Return the total: runs that ended, a bar, failures, and the time."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Grid
    from rich.text import Text

    counted = f"{view.done}/{view.total} runs"
    failed = f"{view.failed} failed" if view.failed else ""
    state = ", ".join(_times(view))
    room = width - len(counted) - len(failed) - cell_len(state) - 4
    bar = ProgressBar(max(1, view.total), view.done, width=max(8, min(30, room)), complete_style="green",
                      finished_style="green")  # fmt: skip
    total = Grid.grid(padding=(0, 1))
    total.add_row(Text(counted, no_wrap=True), bar, *([Text(failed, style="red", no_wrap=True)] if failed else []),
                  Text(state, no_wrap=True, overflow="ellipsis"))  # fmt: skip
    return total


def _times(view: View) -> list[str]:
    found = [shown(view.phase)] if view.phase else []
    found.append(f"{duration(view.elapsed)} elapsed")
    found += [f"{duration(view.left)} left"] if view.left is not None else []
    if view.rate is not None:
        found.append(f"{view.rate:.3g} runs/min" if view.rate >= 1 else f"{60 * view.rate:.2g} runs/h")
    return found


def _map(marks: Sequence[str], across: int) -> Any:
    from rich.text import Text

    found = Text()
    for i, status in enumerate(marks):
        if i and i % across == 0:
            found.append("\n")
        mark, style = MARKS.get(status, ("·", "dim"))
        found.append(mark, style=style)
    found.append("\n")
    return found


def cells(row: Running) -> list[str]:
    """Return the texts of a running seed: its name, variant, step and numbers."""
    name = [shown(row.seed), shown(row.variant, 200)]
    if row.step is None:
        return [*name, shown(row.said) or "starting"]
    at = f"step {row.step}" if row.of is None else f"epoch {row.step}/{row.of}"
    return [*name, at, *(f"{shown(k, 24)} {number(v, digits=4)}" for k, v in row.metrics)]


def html(view: View) -> str:
    """Return the view for a notebook: escaped, without script, in the colours of the notebook."""
    state = [f"{view.done}/{view.total} runs"]
    state += [f"{plural(view.flying, 'run')} at work"] if view.flying else [view.phase] if view.phase else []
    state += [f"{view.failed} failed"] if view.failed else []
    bar = Markup('<progress max="{}" value="{}" aria-label="runs that ended"></progress>')
    items: list[Item] = [
        Note(", ".join([*state, *_times(replace(view, phase=""))]), label=view.name),
        bar.format(max(1, view.total), view.done),
    ]
    runs = [cells(row) for row in view.running[:ROWS]]
    if runs:
        rows = [[" ".join(filter(None, row[:2])), row[2], "  ".join(row[3:])] for row in runs]
        items.append(Table(("run", "", ""), rows, names=3))
    if view.interim:
        arms = [[*_arm(one), spark(one.widths)] for one in view.interim[:ARMS]]
        items.append(Table(("", "mean", "n", ""), arms, notes=[f"{SO_FAR} ({PEEKING})"] * (view.done < view.total)))
    return notebook(of(*items))


class Cell:
    """The live display of a notebook, updated in place at most twice a second."""

    def __init__(self, name: str, primary: str | None, phase: str) -> None:
        show: Any = import_module("IPython.display")
        self.tracker = Tracker(name, primary)
        self._html, self._phase, self._shown = show.HTML, phase, time.monotonic()
        self._handle: Any = show.display(show.HTML(html(self.tracker.view(phase=phase))), display_id=True)

    def begin(self, members: Iterable[Member]) -> None:
        """Start with the planned runs; some may have ended already."""
        self.tracker.seen(members)
        self.tracker.begun = self.tracker.clock()
        self.update((), 0, now=True)

    def ended(self, key: str, status: str, metrics: dict[str, float], seconds: float) -> None:
        self.tracker.take(key, status, metrics, seconds)
        self.update((), 0)

    def update(self, rows: Sequence[Running], flying: int, *, now: bool = False) -> None:
        """Draw again, unless the last drawing is less than `BETWEEN` seconds ago."""
        if now or time.monotonic() - self._shown >= BETWEEN:
            self._shown = time.monotonic()
            view = self.tracker.view(rows, flying, self._phase if not self.tracker.ended else "")
            self._handle.update(self._html(html(view)))

    def close(self) -> None:
        self._phase = ""
        self.update((), 0, now=True)
