"""Ten kinds of noisy curves from a generator: an unlimited data set, inspired by MNIST-1D.

With unlimited test data the true accuracy of a model is known. It can be compared with the interval that the report
gives for it from a few hundred test examples.

    sweep run recipe=curves:recipe --seeds 0-9
"""

import numpy as np
from torch import nn

import sweep

POINTS, KINDS = 40, 10


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return curves (count, POINTS), each stretched, shifted, tilted and blurred by noise, and their random kinds."""
    shapes = np.random.default_rng(7).normal(size=(KINDS, 8))  # the kinds are the same for every seed
    rng = np.random.default_rng([seed, 1])
    kinds = rng.integers(0, KINDS, count)
    places = np.linspace(0, 1, POINTS)
    start, length = rng.uniform(0, 0.3, (count, 1)), rng.uniform(0.5, 0.7, (count, 1))
    at = np.clip((places - start) / length, 0, 1) * 7
    low = np.minimum(at.astype(int), 6)
    values = shapes[kinds]
    curve = np.take_along_axis(values, low, 1) * (low + 1 - at) + np.take_along_axis(values, low + 1, 1) * (at - low)
    tilt = rng.normal(0, 0.5, (count, 1)) * (places - 0.5)
    noise = rng.normal(0, 0.6, (count, POINTS))
    blurred = (noise + np.roll(noise, 1, 1) + np.roll(noise, 2, 1)) / np.sqrt(3)
    return (curve * rng.uniform(0.6, 1.4, (count, 1)) + tilt + blurred).astype(np.float32), kinds


def recipe(*, examples: int = 3000, width: int = 64, lr: float = 0.003, epochs: int = 15) -> sweep.Recipe:
    return sweep.recipe(
        model=lambda data: nn.Sequential(
            nn.Linear(data.inputs, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, data.outputs)
        ),
        data=sweep.data.arrays(*draw(examples, 0)), optimizer=sweep.adamw(lr=lr), epochs=epochs, batch_size=64,
    )  # fmt: skip
