"""Directories whose names, metrics and messages try to act, and ordinary ones, for the tests of the HTML report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from finished import failure, normal, sweep_of
from predicted import classes, saved

from sweep.store import Store

HOSTILE = (
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "{{7*7}}", "{% raise %}", "loss\n<b>x",
    "\u202eemit", "'\" onload=alert(1)", "</style><style>*{display:none}", "seed", "e\u0301", "\u00e9", "=cmd()",
    "../x",
)  # fmt: skip
MESSAGE = "</script><script>alert(1)</script> {{7*7}} <img src='http://example.org/x.png'> \u202e"


def ordinary(path: Path, *, variants: tuple[str, ...] = ("lr-0.1-aaaaaa", "lr-0.01-bbbbbb")) -> Store:
    """Two variants of six seeds with histories and predictions, one run failed."""
    probs, targets = classes()

    def outcome(spec: Any) -> dict[str, Any]:
        seed = spec.seed
        rows = [{"step": e, "train/loss": 1 / e + 0.01 * seed, "val/accuracy": 1 - 1 / (e + 1)} for e in range(1, 9)]
        if spec.seed == 3 and spec.variant == variants[-1]:
            return {"failure": failure("diverged", "train/loss is nan at step 4"), "history": rows[:4]}
        accuracy = float((probs[seed].argmax(axis=1) == targets).mean())
        return {
            "metrics": {"test/accuracy": accuracy, "test/nll": normal(seed, 0.3), "val/loss": normal(seed, 1)},
            "history": rows,
            "predictions": {"test": saved(probs[spec.seed], targets)},
        }

    return sweep_of(path, outcome, seeds=range(6), variants=variants)


def hostile(path: Path) -> Store:
    """Every name and message that a page could trip over; one seed failed, one reports nothing finite."""

    def outcome(spec: Any) -> dict[str, Any]:
        if spec.seed == 2:
            return {"failure": failure("raised", MESSAGE, exception=HOSTILE[0], where=HOSTILE[1]), "notes": (MESSAGE,)}
        values = {name: float(i + spec.seed) for i, name in enumerate(HOSTILE)}
        values["=cmd()"] = math.nan if spec.seed == 1 else 1e12 + spec.seed
        rows = [{"step": e, **{name: np.sin(e + i) for i, name in enumerate(HOSTILE)}} for e in range(1, 6)]
        return {"metrics": {"test/accuracy": 0.5 + spec.seed / 10, **values}, "history": rows, "notes": (MESSAGE,)}

    return sweep_of(path, outcome, seeds=range(5), name="hostile", config={"params": {HOSTILE[0]: HOSTILE[1]}})
