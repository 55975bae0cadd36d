"""`python -m sweep.cli …` is `sweep …`."""

from sweep.cli import sweep

sweep()
