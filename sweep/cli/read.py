"""`sweep status` and `sweep report`: read a directory, without torch or Ray."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import options
from sweep.cli.output import emit, in_short, say, show, show_document, width
from sweep.errors import ConfigError, StatisticsError, SweepError, one_line, some
from sweep.number import number
from sweep.shared_files import shared_by
from sweep.store import Member, Reading, Store, atomic
from sweep.store.manifest import ADOPTED
from sweep.words import path_argument, plural

if TYPE_CHECKING:
    from sweep.analysis.model import Counts
    from sweep.report import Report

MOST_RUNS = 60


@click.command(short_help="List which runs are done, running, failed or missing.")
@options.directory
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON, with every run.")
def status(directory: Path, as_json: bool) -> int:
    """List every planned run with its status. Works on a complete, running or copied directory."""
    from sweep.analysis.model import counts_of
    from sweep.report.counts import counted

    store = Store.open(directory)
    members = list(store.scan())
    counts = counts_of(members, adopted=store.manifest.adopted)
    owner = store.owner()
    if as_json:
        emit({
            "directory": store.shown, "name": store.manifest.name, "counts": asdict(counts),
            "owner": owner.to_json() if owner else None,
            "runs": [{"key": m.key, "status": m.status, "attempts": m.attempts, "note": m.note} for m in members],
        })  # fmt: skip
        return 0
    _show_runs(store, members)
    say(counted(counts))
    if owner is not None:
        say(f"in use by {owner}")
    say(f"next: {go_on(store, counts)}")
    return 0


def _show_runs(store: Store, members: list[Member]) -> None:
    """Print a line for each run; with many runs, only for those that are not ok."""
    from rich.cells import cell_len

    from sweep.report.document import distinct, wants_color
    from sweep.report.live import MARKS

    colored = wants_color(sys.stdout)
    shown = members if len(members) <= MOST_RUNS else [m for m in members if m.status != "ok"][:MOST_RUNS]
    title = one_line(store.manifest.name)
    show(f"{click.style(title, bold=True) if colored else title} in {one_line(store.shown)}\n")
    names = distinct([member.key for member in shown], 40)
    wide = max(map(cell_len, names), default=0)
    told: dict[str, str] = {}
    words = {"ok": ADOPTED, "pending": "missing"} if store.manifest.adopted else {}
    for member, name in zip(shown, names, strict=True):
        color = MARKS.get(member.status, ("", "bright_black"))[1]
        word = words.get(member.status, member.status)
        state = click.style(word, fg=color) if colored else word
        room, rest = " " * (wide - cell_len(name)), " " * (8 - len(word)) + _detail(store, member, told)
        show(f"  {name}{room}  {state}{one_line(rest)}".rstrip() + "\n")
    if len(shown) < len(members):
        say(f"  … and {len(members) - len(shown)} more; --json lists all of them")


def go_on(store: Store, counts: Counts) -> str:
    """Return the next command: watch what is running, train what is missing, else read the report."""
    from sweep.report.commands import resume

    here = path_argument(store.shown)
    if store.owner() is not None or counts.running:
        return f"sweep watch {here}"
    if not store.manifest.adopted and (counts.lost or counts.pending):
        return f"{resume(store.manifest, store.shown)}   # trains the runs that are lost or pending"
    return f"sweep report {here}"


def _detail(store: Store, member: Member, told: dict[str, str]) -> str:
    """Return the details of a run. told: failures that were shown before, with their first run."""
    if member.record is not None:
        if member.record.failure is not None:
            first = told.setdefault(str(member.record.failure), member.key)
            return f" {member.record.failure}" if first == member.key else f" same failure as {first}"
        return "  ".join([f" {in_short(member.record.metrics)}", *([one_line(member.note)] if member.note else [])])
    if member.status in ("running", "lost", "stopped"):
        row = store.last_row(member)
        parts = [f"step {row['step']}" if row else ""]
        if member.status != "running":
            kept = resumes(store, member)
            parts.append(
                f"will resume from {kept}" if kept else "will start over, because it saved nothing to resume from"
            )
        return " " + "; ".join(filter(None, [*parts, member.note]))
    return ""


def resumes(store: Store, member: Member) -> str:
    """Return what an interrupted run resumes from, or ""."""
    if store.manifest.experiment["target"]["kind"] == "command":
        files = store.left_behind(member)
        return f"{plural(files, 'file')} in its {{dir}}" if files else ""
    return "its checkpoint" if store.checkpoint(member) is not None else ""


@click.command(short_help="Report what the spread between the seeds means.")
@options.directories
@options.formats("md", "latex")
@click.option(
    "--full",
    is_flag=True,
    help="Print everything as text: every metric, the spread between seeds, the ensemble, the machine.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write one HTML page with everything: pictures, failures, evidence. It works "
              "offline.")  # fmt: skip
@options.level()
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="For md and latex: a metric to show as a column, for example test/nll. Can be repeated. Default: the metrics "
    "of the primary metric's split.",
)
@click.option("--columns", type=click.Choice(["metrics", "tasks"]), default="metrics", show_default=True,
              help="For md and latex: print one column per metric, or one per task. With tasks, each row is a variant, "
              "and the primary metric is shown unless --metric names others.")  # fmt: skip
@click.option("--checklist", is_flag=True, help="Answer the questions of reproducibility checklists from the records.")
@click.option("--percent", is_flag=True, help="For md and latex: show accuracies and other shares in percent.")
@options.group_by
@click.option("--spread", type=click.Choice(["ci", "sd"]), default="ci", show_default=True,
              help="For md and latex: what to print after ±, a confidence interval (ci) or a standard "
              "deviation (sd).")  # fmt: skip
def report(
    directories: tuple[Path, ...], format_: str, full: bool, html: Path | None, level: float, checklist: bool,
    percent: bool, group_by: str | None, **asked: Any,
) -> int:  # fmt: skip
    """Report the primary metric with its interval over seeds, and what failed. --full adds everything else.

    In md and latex, several directories share one table.

    \b
      sweep report runs/digits-mlp --html report.html
      sweep report runs/a runs/b --format latex
    """
    from sweep import report as reports

    stores = [Reading.of(directory) for directory in directories]
    if html is not None:
        if len(stores) > 1:
            raise ConfigError("a page can show only one directory", where="--html", hint="write one page for each")
        _page(stores[0], html, level)
        return 0
    axes, everything = options.keys(group_by), full or format_ == "json"
    made = [reports.build(store, level=level, group_by=axes, curves=everything) for store in stores]
    if checklist:
        from sweep.report.checklist import checklist as answers

        for one, store in zip(made, stores, strict=True):
            show_document(answers(one, store), "text" if format_ == "json" else format_)
    elif format_ == "json":
        bodies = [reports.to_json(one) for one in made]
        emit(bodies[0] if len(bodies) == 1 else bodies)
    elif format_ == "text":
        show("\n".join(_as_text(one, full) for one in made))
    else:
        table = reports.markdown if format_ == "md" else reports.latex
        best = _best(stores, made[0].primary, level) if len(stores) > 1 else None
        show(table(*made, in_percent=percent, best=best, **asked))
    return 0


def _best(stores: Sequence[Store], metric: str, level: float) -> frozenset[tuple[str, str, str]]:
    """Return what a table of several directories may set in bold; empty if they cannot be compared."""
    from sweep.analysis.arms import declared
    from sweep.analysis.compare import best

    try:
        return best(stores, metric, declared(stores), level=level)
    except StatisticsError:
        return frozenset()


def _page(store: Store, html: Path, level: float) -> None:
    from sweep.report.html import page

    if html.suffix not in (".html", ".htm") and html.resolve().is_relative_to(store.path.resolve()):
        raise ConfigError(
            f"{html} could be a file of the sweep itself", where="--html", hint="let its name end in .html"
        )
    text = page(store, level=level, comparison=_comparison(store, level))
    atomic.write(html, text.encode())
    say(f"wrote {html} ({len(text.encode()) / 1024:.0f} KiB); open it in any browser", err=True)


def _comparison(store: Store, level: float) -> Any:
    """Return the comparison of the variants of a directory, or why there is none; None for a single variant."""
    if len({cell["variant"] for cell in store.manifest.experiment["cells"]}) < 2:
        return None
    from sweep.report.comparison import compare

    try:
        return compare(store, level=level)
    except SweepError as error:
        return str(error)


def show_report(store: Store, format_: str, *, allow_shared: bool = True) -> int:
    """Print a report as text or json, and return 0 if every planned run is ok, else 1.

    allow_shared: runs that wrote a file side by side count as ok.
    """
    from sweep import report as reports

    made = reports.build(store)
    if format_ == "json":
        emit(reports.to_json(made))
    else:
        show(_as_text(made))
    mixed = bool(made.changed) or (not allow_shared and any(not each.in_turn for each in made.shared))
    return 0 if made.counts.ok == made.counts.planned and not mixed else 1


def _as_text(made: Report, full: bool = False) -> str:
    from sweep import report as reports

    text = reports.text if full else reports.brief_text
    return text(made, width=width(), color=reports.wants_color(sys.stdout))


def show_single(store: Store, seeds: Collection[int], *, allow_shared: bool) -> int:
    """Print the result of `ml-train`: the one run, and the next command."""
    from sweep.report.shared_files import sentence as shared_sentence

    code = 0
    members = list(store.scan())
    for member in members:
        if member.seed not in seeds:
            continue
        found = member.record
        if found is None:
            say(f"seed {member.seed}: {member.status}")
            code = 1
            continue
        mode = "deterministic" if found.spec["deterministic"] else "fast"
        threads = plural(found.spec["threads"], "thread")
        say(f"seed {member.seed} ({mode}, {found.spec['device']}, {threads}): {found.status}")
        if found.failure is not None:
            say(f"  {found.failure}\n  its log: {store.log(member)}")
            code = 1
        for name, value in found.metrics.items():
            say(f"  {name:<20} {number(value, digits=6)}")
        if "final" in found.digests:
            say(f"  weights              sha256 {found.digests['final'][:16]}…")
        if names := found.files.get("changed"):
            say(f"  {some(names)} changed during the run; run the same command to train it again")
            code = 1
        for file in (each for each in shared_by(members) if member.key in each.runs and not each.in_turn):
            say(f"  {shared_sentence(file)}")
            code = max(code, 0 if allow_shared else 1)
    say(f"next: sweep report {path_argument(store.shown)}")
    return code
