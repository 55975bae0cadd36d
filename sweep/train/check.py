"""The check of a user's recipe before anything starts: its data are usable and its parts fit together."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sweep.determinism import seeding
from sweep.errors import ConfigError, SweepError
from sweep.target.function import call
from sweep.train.augment import altered
from sweep.train.batches import last_batch, one_left
from sweep.train.data import Dataset, forget
from sweep.train.losses import LOSSES
from sweep.train.precision import logits
from sweep.train.recipe import Recipe

# An error about something else may come from a module that needs a GPU.
_SHAPES = re.compile(r"shape|size|dimension|channel|out of bounds|out of range|batch|dtype|type", re.I)
_OURS = str(Path(__file__).parents[1])
_ALONE = "more than 1 value per channel"


def check(made: Any, reference: str, device: str, *, vectorize: int = 0) -> Recipe:
    """Return the recipe after reading its data and passing a batch of two through its model and loss.

    Raises: ConfigError naming the part, before any run has started.
    """
    if not isinstance(made, Recipe):
        raise ConfigError(
            f"it returned a {type(made).__name__}, not a recipe", where=reference, hint="return sweep.recipe(...)"
        )
    if vectorize and made.average is not None:
        raise ConfigError(
            "vectorised lanes cannot keep a moving average of the weights",
            where=f"{reference}: ema",
            hint="leave vectorize off",
        )
    try:
        with seeding.restored():
            data = call(made.data, where=reference, failure="its data cannot be read")
            _require_data(data, reference)
            _try(made, data, reference, device)
    finally:
        forget()
    return made


def _require_data(data: Any, reference: str) -> None:
    if not isinstance(data, Dataset):
        raise ConfigError(
            f"its data are a {type(data).__name__}, not a sweep.Dataset", where=reference,
            hint="give data=sweep.data.arrays(x, y)",
        )  # fmt: skip
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        for part in ("inputs", "targets"):
            held: Tensor = getattr(split, part)
            if len(held) != len(split) or not len(split):
                raise ConfigError(
                    f"{name} has {len(held)} {part} for {len(split)} examples", where=f"{reference}: data"
                )
            if held.is_floating_point() and not torch.isfinite(held).all():
                raise ConfigError(
                    f"the {part} of {name} hold values that are not finite", where=f"{reference}: data",
                    hint="leave those examples out, or fill in the missing values",
                )  # fmt: skip


def _try(made: Recipe, data: Dataset, reference: str, device: str) -> None:
    torch.manual_seed(0)
    model = call(made.model, data, where=reference, failure="its model cannot be made")
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"its model is a {type(model).__name__}, not a torch.nn.Module", where=f"{reference}: model")
    model = model.train()
    alone = last_batch(len(data.train), made.batch_size, drop_last=made.drop_last) == 1
    for count in (2, 1) if alone else (2,):
        try:
            loss = _loss(made, data, model, count, reference)
        except SweepError:
            raise
        except Exception as error:
            refused = _refusal(error, made, data, count, reference, device)
            if refused is None:
                return
            raise refused from error
        if not isinstance(loss, Tensor) or loss.dim():
            raise ConfigError(
                "its loss is not a single number", where=f"{reference}: loss", hint="return the mean over the batch"
            )


def _loss(made: Recipe, data: Dataset, model: torch.nn.Module, count: int, reference: str) -> Any:
    """Return the loss of a batch of the first examples. Raises: ConfigError, and anything that the parts raise."""
    inputs, targets = data.train.inputs[:count], data.train.targets[:count]
    given = model(inputs)
    try:
        outputs = logits(given)
    except TypeError as error:
        raise ConfigError(
            f"its model returns {error}", where=f"{reference}: model",
            hint='return the logits from its forward, or a mapping with the key "logits"',
        ) from None  # fmt: skip
    _require_outputs(made, data, outputs, reference)
    made.scoring(data).tally(outputs.detach().float(), targets)
    changed, targets = altered(made, inputs, targets, torch.arange(count))
    outputs = outputs if changed is inputs else logits(model(changed))
    return made.loss(outputs.float(), targets)


def _refusal(
    error: Exception, made: Recipe, data: Dataset, count: int, reference: str, device: str
) -> ConfigError | None:
    """Return why a recipe is refused after its parts raised this on a batch, or None if it may still train."""
    text, shape = str(error).strip().partition("\n")[0], tuple(data.input_shape)
    if count == 1:
        if _ALONE not in text:
            return None
        return ConfigError(
            one_left(made.batch_size, len(data.train)), where=reference,
            hint="set drop_last=True to leave it out, or change batch_size",
        )  # fmt: skip
    if device != "cpu" and not _SHAPES.search(text):
        return None
    return ConfigError(
        f"its model and loss do not take a batch of 2 examples of shape {shape}: {text}{_place(error)}",
        where=reference, hint=_hint(shape, text),
    )  # fmt: skip


def _require_outputs(made: Recipe, data: Dataset, outputs: Tensor, reference: str) -> None:
    named = next((each for each in LOSSES.values() if each.of is made.loss), None)
    if named is None or named.shape is None:
        return
    wanted, found = named.shape(data), tuple(outputs.shape[1:])
    if found != wanted:
        raise ConfigError(
            f"its model returns outputs of shape {found} for each example, but the loss needs {wanted}",
            where=f"{reference}: model", hint="build its last layer with data.outputs outputs",
        )  # fmt: skip


def _place(error: Exception) -> str:
    """Return the last place in the user's own code that an exception passed through, in brackets, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if "site-packages" not in each.filename and not each.filename.startswith(_OURS)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line})" if own else ""


def _hint(shape: tuple[int, ...], text: str) -> str | None:
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] > 4:
        return 'torch expects the channels first: sweep.data.arrays(..., layout="NHWC") moves them'
    if len(shape) == 1 and re.search(r"[34]D|conv", text):
        return f"each example is a row of {shape[0]} numbers, not an image: reshape x, or use a model for tables"
    if len(shape) > 1 and "mat1 and mat2" in text:
        return "a linear layer takes one row per example: begin with nn.Flatten()"
    if "Long" in text or "Int" in text:
        return "an embedding takes token ids: sweep.data.arrays(..., normalise=False) leaves them as they are"
    return None
