"""Training functions that save predictions and scores; each run imports this module and nothing that is heavier."""

from __future__ import annotations

import numpy as np

import sweep

N = 40  # examples of `folded`


def graded(run: sweep.Run, *, skill: float = 0.6, repeats: int = 1, items: int = 40, fails: int = -1) -> None:
    if run.seed == fails:
        raise RuntimeError("no answer")
    hard = np.random.default_rng(0).random(items)
    draw = np.random.default_rng([run.seed, int(100 * skill)])
    ids = np.tile(np.arange(items), repeats)
    score = (hard[ids] + draw.normal(0, 0.3, ids.size) < skill).astype(int)
    run.save_scores("quiz", ids=ids, score=score, cluster=ids // 4, repeat=np.repeat(np.arange(repeats), items))


def answering(run: sweep.Run, *, doubt: float = 0.2) -> None:
    draw = np.random.default_rng([run.seed, int(100 * doubt)])
    targets = np.arange(60) % 3
    said = np.where(draw.random(60) < doubt * (np.arange(60) >= 30), draw.integers(0, 3, 60), targets)
    run.save_predictions("test", ids=np.arange(60), targets=targets, probs=np.eye(3)[said])
    run.log({"test/accuracy": float((said == targets).mean())}, step=1)


def folded(run: sweep.Run, *, fails: int = -1, overlap: bool = False) -> dict[str, float]:
    """Test on every second example, and get most of them right."""
    if (run.seed, run.fold) == (fails, 1):
        raise RuntimeError("no luck")
    mine = np.arange(N) if overlap else np.flatnonzero(np.arange(N) % run.folds == run.fold)
    draw = np.random.default_rng([run.seed, run.fold])
    right = draw.random(mine.size) < 0.8
    targets = mine % 2
    probs = np.eye(2)[np.where(right, targets, 1 - targets)] * 0.8 + 0.1
    run.save_predictions("test", ids=mine, targets=targets, probs=probs)
    run.save_scores("quiz", ids=mine, score=right)
    return {"test/accuracy": float(right.mean())}
