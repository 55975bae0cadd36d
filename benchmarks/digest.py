"""Cost of the digest chain: the processor time of its links against the rest of a run, for the shipped configs.

    python benchmarks/digest.py [--repeats 5]

Each config is trained by `sweep.run(..., engine="inline")` with all its defaults, recorded like any other run. A row
gives the processor time (neighbours do not count) of training, from the first weights to the last prediction, that of
all digests made in it (initial weights, first batch, every epoch, final weights, predictions), and their ratio, as
medians over the repeats. Wanted: below 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sweep
from sweep.determinism import digest
from sweep.errors import SweepError
from sweep.train import loop

CONFIGS = Path(__file__).parent.parent / "configs"
RUNS = (
    ("digits.yaml", ()),
    ("digits.yaml", ("params.model.hidden=[64,64]",)),
    ("digits_deterministic.yaml", ()),
    ("diabetes.yaml", ()),
    ("fashion_mnist_cnn.yaml", ("params.data.limit=6000", "params.epochs=1")),
)


class Clock:
    """Seconds of processor time spent in counted functions; a call inside of another counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.inside = False

    def counts(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            if self.inside:
                return function(*given, **named)
            self.inside, begun = True, time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.process_time() - begun
                self.inside = False

        return counted


@contextmanager
def counted(clock: Clock, owner: Any, *names: str) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in names}
    for name, function in before.items():
        setattr(owner, name, clock.counts(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)


def share(config: str, overrides: tuple[str, ...], seed: int) -> tuple[float, float]:
    """Return (seconds of training with its digests, seconds of the digests)."""
    training, hashing = Clock(), Clock()
    with (
        tempfile.TemporaryDirectory() as room,
        counted(training, loop, "solo"),
        counted(hashing, digest, "module", "tensors", "arrays"),
    ):
        sweep.run(CONFIGS / config, *overrides, seeds=[seed], out=Path(room) / "run", engine="inline")
    return training.seconds, hashing.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(f"{'config':<60} {'training s':>10} {'digests ms':>10} {'share':>7}")
    for config, overrides in RUNS:
        try:
            found = [share(config, overrides, seed) for seed in range(asked.repeats + 1)][1:]  # the first one warms up
        except SweepError as error:
            print(f"{config:<60} {error}".splitlines()[0])
            continue
        training, hashing = (statistics.median(each) for each in zip(*found, strict=True))
        name = " ".join([config, *overrides])
        print(
            f"{name:<60} {training:>10.2f} {1000 * hashing:>10.1f} {hashing / (training - hashing):>7.2%}", flush=True
        )


if __name__ == "__main__":
    main()
