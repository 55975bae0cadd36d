"""A recipe of your own: your model, data and loss, trained by sweep's own loop.

    sweep run recipe=my_recipe:recipe --seeds 0-9

The loop seeds each run, saves checkpoints it can resume from exactly, keeps predictions, and packs seeds on a GPU.
"""

from sklearn.datasets import load_digits
from torch import nn

import sweep


def recipe(*, width: int = 64, lr: float = 0.003, epochs: int = 20) -> sweep.Recipe:
    """The arguments are parameters: `params.width=128` on a command line sets one, `params.lr=0.01,0.001` tries two."""
    digits = load_digits()
    return sweep.recipe(
        # Called for each seed. `data.inputs` is the size of one example, `data.outputs` the number of classes.
        model=lambda data: nn.Sequential(
            nn.Linear(data.inputs, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, data.outputs)
        ),
        # Arrays, tensors, or sweep.data.npz("file.npz") and others. Every seed gets the same test and val sets.
        data=sweep.data.arrays(digits.data, digits.target),
        loss="cross-entropy",  # or "mse" for a number, or a function (outputs, targets) -> mean of the batch
        optimizer=sweep.adamw(lr=lr),
        epochs=epochs,
        batch_size=64,
    )
