"""Write the directories that `directories.tar.xz` holds: `python tests/golden/directories.py FOLDER`.

They are kept as they were written, so that an old directory is what the tests open. Add to them; write none of them
again.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from finished import accuracies, failure, normal, of_every_kind, planned, put, sweep_of
from predicted import classes, saved, values

from sweep.plan import RunSpec
from sweep.store import Manifest, Predictions, Store

A, B, C = "lr-0.01-aaaaaa", "lr-0.05-bbbbbb", "lr-0.1-cccccc"
EXAMPLES = {"train": 240, "val": 60, "test": 100}


def history(seed: int, epochs: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {"step": e, "val/loss": float(2 / e + 0.1 * rng.random()), "val/accuracy": 1 - 0.5 / e}
        for e in range(1, epochs)
    ]


def classified(members: int, *, shift: float = 0.0) -> Any:
    test, test_targets = classes(members, 120, 4, seed=1)
    val, val_targets = classes(members, 90, 4, seed=2)

    def outcome(spec: RunSpec) -> dict[str, Any]:
        i = spec.seed
        accuracy = float((test[i].argmax(1) == test_targets).mean())
        lower = shift * (spec.variant == B)
        return {
            "metrics": {"test/accuracy": accuracy - lower, "test/nll": 0.7 + 0.01 * i + lower, "train/loss": 0.1},
            "history": history(i),
            "predictions": {"test": saved(test[i], test_targets), "val": saved(val[i], val_targets)},
        }

    return outcome


def regressed(spec: RunSpec) -> dict[str, Any]:
    means, variances, targets = values(6, 80, seed=3)
    mean, var = means[spec.seed], variances[spec.seed]
    rmse = float(np.sqrt(((mean - targets) ** 2).mean()))
    held = Predictions(ids=np.arange(80), targets=targets, mean=mean, var=var)
    return {"metrics": {"test/rmse": rmse}, "predictions": {"test": held, "val": held}}


def failing(spec: RunSpec) -> dict[str, Any] | None:
    if spec.variant == B and spec.seed % 3 == 0:
        return {"failure": failure("raised", f"bad value {spec.seed}", exception="RuntimeError", where="tiny.py:5")}
    if spec.variant == A and spec.seed == 7:
        return {"failure": failure("diverged", "test/loss is nan"), "metrics": {"test/accuracy": 0.1}}
    return {"metrics": {"test/accuracy": normal(spec.seed) + 0.02 * (spec.variant == C)}, "history": history(spec.seed)}


def extreme(spec: RunSpec) -> dict[str, Any]:
    tiny, rng = 1e-7, np.random.default_rng(spec.seed)
    lift = tiny * (spec.variant == B)
    return {
        "metrics": {
            "test/accuracy": 0.5, "tiny": tiny * (1 + 0.1 * rng.random()) + lift, "huge": 1e30 * (1 + rng.random()),
            "count": 800.0 + spec.seed, "odd": float("nan") if spec.seed == 1 else 1.0, "endless": float("inf"),
        }
    }  # fmt: skip


def noisy(spec: RunSpec) -> dict[str, Any]:
    value = normal(spec.seed * 31 + spec.repeat) + 0.01 * (spec.variant == B) + 0.2 * (spec.task == "hard")
    return {"metrics": {"test/accuracy": value, "test/nll": 1 - value}}


def split(spec: RunSpec) -> dict[str, Any]:
    result = {"rule": "final", "epoch": 3, "examples": EXAMPLES}
    return {"metrics": {"test/accuracy": normal(spec.seed) + 0.004 * (spec.variant == B)}, "result": result}


def write(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    sweep_of(out / "every-kind", of_every_kind, seeds=range(6))
    sweep_of(out / "classes", classified(8), seeds=range(8))
    sweep_of(out / "grid", classified(10, shift=0.03), seeds=range(10), variants=(A, B))
    sweep_of(out / "values", regressed, seeds=range(6), config={"primary": "test/rmse"})
    sweep_of(out / "failures", failing, seeds=range(10), variants=(A, B, C))
    sweep_of(
        out / "extremes", extreme, seeds=range(4), variants=(A, B), config={"primary": "tiny", "goals": {"tiny": "min"}}
    )
    sweep_of(out / "repeats", noisy, seeds=range(5), variants=(A, B), repeats=3)
    sweep_of(out / "tasks", noisy, seeds=range(5), variants=(A, B, C), tasks=("easy", "hard", "odd"))
    sweep_of(out / "many", accuracies({seed: normal(seed) for seed in range(60)}), seeds=range(60))
    sweep_of(out / "one", accuracies({42: 0.9}), seeds=[42])
    plan = planned(range(8), (A, B), ("",), 1, deterministic=False)
    plan = replace(plan, config=plan.config.model_copy(update={"vary": ("split",)}))
    plain = {"primary": "test/accuracy", "deterministic": False}
    store = Store.create(out / "splits", Manifest("made-up", plain, plan.experiment(), plan.config.seeds))
    for spec in plan:
        put(store, spec, split(spec))
    extended = sweep_of(
        out / "extended", accuracies({s: normal(s) for s in range(12)}), seeds=range(5), variants=(A, B)
    )
    plan = planned(range(12), (A, B), ("",), 1, deterministic=False)
    extended.extend(range(5, 12))
    for spec in plan:
        if spec.seed >= 5:
            put(extended, spec, {"metrics": {"test/accuracy": normal(spec.seed)}})
    run = ["sweep", "run", "--engine", "inline"]
    subprocess.run(
        [*run, "recipe=sweep.train.recipes:classifier", "params.epochs=2", "params.model={name: mlp, hidden: [8]}",
         "grid={params.optimizer.lr: [0.01, 0.05]}", "--seeds", "0-3", "--deterministic", "--out", "trained"],
        cwd=out, check=True,
    )  # fmt: skip
    program = 'echo "{\\"test/acc\\": 0.9$1}"; test $1 != 3'
    subprocess.run([*run, "--seeds", "0-4", "--out", "command", "--", "sh", "-c", program, "sh", "{seed}"], cwd=out)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
