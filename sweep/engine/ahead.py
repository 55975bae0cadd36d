"""Imported by the workers of a local Ray as they start: what they fork later is loaded before their first bundle."""

from contextlib import suppress

from sweep.worker import forked

with suppress(OSError):  # whatever it is, the first task meets it as well
    forked.start(deterministic=False)  # this environment already has what deterministic mode needs
