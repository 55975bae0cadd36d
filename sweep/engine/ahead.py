"""Imported by the workers of a local Ray as they start: it loads what they fork later before their first bundle."""

from contextlib import suppress

from sweep.worker import forked

with suppress(OSError):  # the first task will meet the same error
    forked.start(deterministic=False)  # this environment already has what deterministic mode needs
