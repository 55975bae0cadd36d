"""The learning curves of a directory: each history read once, long ones thinned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.analysis import frames
from sweep.errors import IntegrityError
from sweep.goals import is_score
from sweep.store import Member, Store

MOST = 20_000_000  # values held at once; it limits how many a run keeps of each metric
Logged = tuple[Member, npt.NDArray[np.int64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Histories:
    """The logged values of runs, by metric. refused: runs whose history differs from the recorded one."""

    logged: dict[str, list[Logged]] = field(default_factory=dict)
    strides: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def frame(self, metric: str) -> pd.DataFrame:
        """Return one metric in the form of `frames.history`; `attrs["stride"]` is n if every nth value was kept."""
        table = frames.stacked([(member, steps, {metric: values}) for member, steps, values in self.logged[metric]])
        table.attrs["stride"] = self.strides[metric]
        return table


def read(store: Store, members: Iterable[Member]) -> Histories:
    """Return the histories of these runs. Strides are powers of two, so all runs have the steps of the coarsest."""
    found, runs = Histories(), list(members)
    most = max(100, min(4000, MOST // (10 * max(1, len(runs)))))
    for member in runs:
        try:
            steps, columns = frames.by_step(store.table(member))
        except IntegrityError:
            found.refused.append(member.key)
            continue
        for name, values in columns.items():
            if not is_score(name):
                continue
            # A metric that is logged at few steps is thinned over its own values.
            own = np.flatnonzero(np.isfinite(values)) if steps.size > most else np.arange(steps.size)
            stride = 1 << max(0, -(-own.size // most) - 1).bit_length()
            kept = own[np.unique([*range(0, own.size, stride), own.size - 1])] if stride > 1 else own
            if kept.size:
                found.logged.setdefault(name, []).append((member, steps[kept], values[kept]))
                found.strides[name] = max(stride, found.strides.get(name, 1))
    return found


def preferred(names: Sequence[str], primary: str) -> list[str]:
    """Return the metrics in order of interest: the primary one, then those with its name and losses; train last."""
    order = {"val": 0, "test": 1, "train": 3}
    leaf = primary.rpartition("/")[2]

    def key(name: str) -> tuple[bool, bool, int, str]:
        split, _, rest = name.rpartition("/")
        return name != primary, rest not in (leaf, "loss", "nll"), order.get(split, 2), name

    return sorted(names, key=key)
