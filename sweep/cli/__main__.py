"""Run `sweep` as `python -m sweep.cli`."""

from sweep.cli import sweep

sweep()
