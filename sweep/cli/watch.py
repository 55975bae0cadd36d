"""`sweep watch`: follow a sweep from another terminal, by its directory."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli import options
from sweep.cli.output import in_short, say
from sweep.store import Member, Store
from sweep.store.archive import is_packed

if TYPE_CHECKING:
    from sweep.cli.progress import Screen
    from sweep.report.live import Tracker, View

EVERY = 1.0  # seconds between two scans, more if a scan takes long


@click.command(short_help="Follow a running sweep from another terminal.")
@options.directory
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=EVERY,
    show_default=True,
    help="Seconds between two reads of the directory.",
)
def watch(directory: Path, every: float) -> int:
    """Show a running sweep as its own terminal does: progress, running seeds, the interval so far.

    The command only reads. It ends when the sweep ends, or at Ctrl-C, which does not stop the sweep. If nothing is
    running, it prints the counts of the runs.
    """
    from sweep.cli.progress import Screen
    from sweep.report.live import Tracker

    store = Store.open(directory)
    tracker = Tracker(store.manifest.name, store.manifest.config.get("primary"))
    screen = Screen(sys.stderr, lambda: view[0])
    members = list(store.scan())
    tracker.seen(members)
    tracker.started -= _since(store)
    view: list[View] = [_view(store, tracker, members)]
    try:
        if at_work(store, members):
            screen.say(f"watching {store.manifest.name} in {store.shown}; Ctrl-C does not stop it")
            screen.start()
        while at_work(store, members):
            took = time.monotonic()
            store = Store.open(directory)  # seeds may have joined
            members = list(store.scan())
            for member in tracker.seen(members):
                _tell(screen, member)
            view[0] = _view(store, tracker, members)
            time.sleep(max(every, 5 * (time.monotonic() - took)))
    except KeyboardInterrupt:
        screen.stop()
        say("no longer watching; the sweep continues", err=True)
        return 0
    finally:
        screen.stop()
    from sweep.analysis.model import counts_of
    from sweep.cli.read import go_on
    from sweep.report.counts import counted

    counts = counts_of(members, adopted=store.manifest.adopted)
    say(f"{store.manifest.name} in {store.shown}: {counted(counts)}")
    say(f"next: {go_on(store, counts)}")
    return 0


def _since(store: Store) -> float:
    """Return how many seconds ago the launch that holds a directory began, by the clocks of both machines."""
    owner = store.owner()
    if owner is None:
        return 0.0
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(owner.started)).total_seconds())
    except (TypeError, ValueError):  # written by another program, and not a time
        return 0.0


def at_work(store: Store, members: list[Member]) -> bool:
    """Return whether a launch holds the directory, or a single run is being trained in it; False for a zip."""
    return not is_packed(store.shown) and (
        store.owner() is not None or any(member.status == "running" for member in members)
    )


def _view(store: Store, tracker: Tracker, members: list[Member]) -> View:
    from sweep.report.live import ROWS, running

    keys = [member.key for member in members if member.status == "running"]
    phase = "between runs" if tracker.ended else "no run has begun"
    return tracker.view(running(store, keys, ROWS), len(keys), phase)


def _tell(screen: Screen, member: Member) -> None:
    if member.record is None:
        return
    if member.record.failure is not None:
        screen.say(f"{member.key}: {member.record.failure}")
    elif screen.live is None:
        screen.say(f"{member.key}  {in_short(member.record.metrics)}")
