"""Learning-rate schedules as pure functions of the step: a resumed run needs no state to go on."""

from __future__ import annotations

from math import cos, pi

from sweep.train.params import Schedule


def factor(spec: Schedule, step: int, steps: int) -> float:
    """Return the factor of the learning rate at `step` (0 .. steps - 1) of a run of `steps`."""
    warmup = round(spec.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.name == "constant":
        return 1.0
    if spec.name == "cosine":
        # Loshchilov & Hutter (2017), eq. 5, one cycle; the last step still moves unless the floor is 0.
        floor = spec.floor or 0.0
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + cos(pi * done))
    gamma = 1.0 if spec.gamma is None else spec.gamma
    return gamma ** sum(step >= share * steps for share in spec.milestones or ())
