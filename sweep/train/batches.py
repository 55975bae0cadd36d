"""Batches that a built-in model cannot learn from, refused before anything starts. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.errors import ConfigError
from sweep.train.params import Data, Model
from sweep.train.splits import Fold, Kind, look


def require_batches(params: Mapping[str, Any], kind: Kind, *, where: str, splits: Sequence[int | Fold] = ()) -> None:
    """Refuse examples that are not images for a model that takes images, and a batch of one example under batch norm.

    params: of a built-in recipe, with every default filled in. Data are read only if the answer depends on them.
    splits: see `look`.
    Raises: ConfigError naming the parameter and the fix.
    """
    model, size = Model.model_validate(params["model"]), params["batch_size"]
    if model.name != "mlp":
        require_images(model, look(Data.model_validate(params["data"]), kind, splits).shape)
    if not model.batch_norm or (model.name != "resnet" and not model.hidden):
        return
    seen = look(Data.model_validate(params["data"]), kind, splits)
    if model.name == "resnet" and not _ends_in_one_pixel(model, seen.shape):
        return
    for count in seen.counts:
        if last_batch(count, size, drop_last=params["drop_last"]) == 1:
            break
    else:
        return
    out = (
        "set params.batch_size to 2 or more"
        if size == 1
        else "set params.drop_last=true to leave it out, or change batch_size"
    )
    raise ConfigError(one_left(size, count), where=where, hint=out)


def one_left(size: int, count: int) -> str:
    """Return why batch norm cannot train on `count` examples in batches of `size`."""
    return f"batch_size {size} leaves one of {count} training examples for the last batch, and batch norm needs two"


def last_batch(count: int, size: int, *, drop_last: bool) -> int:
    """Return the number of examples, out of `count`, in the last batch of an epoch."""
    return min(size, count) if drop_last else count % size or size


def require_images(model: Model, shape: Sequence[int]) -> None:
    """Refuse examples of another shape if the model takes images. Raises: ConfigError."""
    if model.name != "mlp" and len(shape) != 3:
        raise ConfigError(
            f"a {model.name} needs images, but the examples have shape {tuple(shape)}",
            where="params.model.name", hint="set params.model.name=mlp, which takes any shape",
        )  # fmt: skip


def _ends_in_one_pixel(model: Model, shape: Sequence[int]) -> bool:
    assert model.channels is not None
    halved = 2 ** (len(model.channels) - 1)
    return len(shape) == 3 and all(-(-side // halved) == 1 for side in shape[1:])
