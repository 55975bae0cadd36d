"""Conduct a launch on the screen: progress, signals, the report at the end, the exit code."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

import click

from sweep.cli.output import say
from sweep.cli.progress import Progress
from sweep.job import Cancelled
from sweep.launch import Finished, Launch
from sweep.store import Store
from sweep.target.trust import harmless

PATIENCE = 30.0  # seconds that running code has to reach a checkpoint before it is cancelled

AGAIN = ("engine", "address", "jobs", "fail_fast", "until", "max_seeds")  # options that a directory does not keep

_EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


def conduct(launch: Launch, *, as_json: bool, single: bool = False) -> int:
    """Run a launch to its end, print its report, and return the exit code.

    0: every planned run is ok. 1: some are not, or runs wrote a file of the launch folder side by side and that was not
    allowed. 3: bits differ that should be equal.
    """
    cancelled = False
    progress = Progress(launch)
    closing = threading.Thread(target=launch.close, name="closing")
    # The modules of the report take a second to load. They are loaded after Ray has started and before the last run
    # ends, and not for a single run.
    reported = as_json or not single
    fetching = threading.Thread(target=import_module, args=("sweep.report.worded",), daemon=True)
    try:
        with _signals(launch, progress.screen.warn) as seen:
            try:
                for event in launch:
                    progress.show(event)
                    if reported and isinstance(event, Finished) and not seen and not fetching.ident:
                        fetching.start()
            except Cancelled:
                cancelled = True
            finally:
                progress.screen.stop()
                closing.start()
        store = launch.store
        if store is None:
            return _EXIT[seen[0]]
        if seen:
            say(
                f"{'cancelled' if cancelled else 'stopped'}; {left(store)}. To resume: {again(launch, store)}", err=True
            )
            return _EXIT[seen[0]]
        from sweep.cli.read import show_report, show_single

        shared = launch.plan.config.allow_shared
        if reported:
            code = show_report(store, "json" if as_json else "text", allow_shared=shared)
            code = 3 if code == 0 and store.manifest.stamp.get("status") == "differs" else code
        else:
            code = show_single(store, launch.only or (), allow_shared=shared)
        if launch.uncopied:
            say(f"not everything was copied: {launch.uncopied}", err=True)
            return max(code, 1)
        return code
    finally:
        closing.join()  # a local Ray takes a second or two to end, so the report is made meanwhile


def left(store: Store) -> str:
    """Return the state of a stopped launch: "3 runs are complete, 2 had begun (1 can resume, 1 will start over)"."""
    from sweep.cli.read import resumes

    members = list(store.scan())
    done = sum(member.record is not None for member in members)
    begun = [member for member in members if member.record is None and member.attempts]
    said = f"{done} {'run is' if done == 1 else 'runs are'} complete"
    if not begun:
        return said
    kept = sum(bool(resumes(store, member)) for member in begun)
    then = [f"{kept} can resume"] * bool(kept) + [f"{len(begun) - kept} will start over"] * (kept < len(begun))
    return f"{said}, {len(begun)} had begun ({', '.join(then)})"


def again(launch: Launch, store: Store) -> str:
    """Return the command that trains the rest: for one run, or if settings are missing, the same command."""
    from sweep.report.commands import resumable, resume

    if launch.only is not None or not resumable(store.manifest):
        words = [w for w in sys.argv[1:] if w not in ("--json", "--retry-failed", "--retrain")]
        name = os.path.basename(sys.argv[0])
        return shlex.join(["sweep" if name in ("", "__main__.py") else name, *words])
    asked = click.get_current_context().params
    given = {name: asked[name] for name in AGAIN if asked[name] != "ray"}
    return resume(store.manifest, store.shown, **given, trust=not harmless(launch.plan.target))


@contextmanager
def _signals(launch: Launch, warn: Callable[[str], None]) -> Iterator[list[signal.Signals]]:
    """Stop at the next checkpoint at the first signal; cancel everything at the second, or after `PATIENCE`."""
    seen: list[signal.Signals] = []
    timers: list[threading.Timer] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        seen.append(signal.Signals(number))
        if len(seen) > 1:
            raise Cancelled
        launch.stop(signal.Signals(number).name)
        program = launch.plan.target.kind == "command"
        stops = "running programs are asked to end" if program else "running seeds continue to their next checkpoint"
        again = "press Ctrl-C again" if number == signal.SIGINT else "send it again"
        warn(f"{signal.Signals(number).name}: {stops} ({PATIENCE:.0f} s at most); {again} to cancel at once")
        late = threading.Timer(PATIENCE, os.kill, (os.getpid(), number))
        late.daemon = True
        late.start()
        timers.append(late)

    # An ignored signal stays ignored, so that `nohup sweep run` outlives its terminal.
    ours = [number for number in _EXIT if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in ours}
    try:
        yield seen
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
