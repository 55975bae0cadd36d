"""The precision of products: full float32, TF32 on the tensor cores, or bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sweep.train.params import Precision

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


@contextmanager
def flags(precision: Precision) -> Iterator[None]:
    """Use TF32 only for `tf32`: by default, torch's convolutions use it."""
    wanted = "tf32" if precision == "tf32" else "ieee"
    cudnn: Any = torch.backends.cudnn  # type checkers do not see its parts, which are made at run time
    backends = torch.backends.cuda.matmul, cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = wanted
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def logits(output: Any) -> Tensor:
    """Return the one tensor in a model's output: the output itself, `logits` of a mapping, or its only tensor.

    Raises: TypeError naming what was given instead.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        found = [output["logits"]] if "logits" in output else [v for v in output.values() if isinstance(v, Tensor)]
        inside = f"a mapping with {', '.join(map(str, output))}"
    else:
        found = [v for v in output if isinstance(v, Tensor)] if isinstance(output, (tuple, list)) else []
        inside = f"a {type(output).__name__} with {len(found)} tensors"
    if len(found) != 1 or not isinstance(found[0], Tensor):
        raise TypeError(f"{inside}, not one tensor of shape (batch, outputs)")
    return found[0]


def forward(precision: Precision, device: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return (model, inputs) -> float32 outputs, the one tensor in the model's output."""
    if precision != "bf16":
        return lambda model, inputs: logits(model(inputs))

    def autocast(model: nn.Module, inputs: Tensor) -> Tensor:
        # A cache of cast weights would outlive a captured graph's memory. Without it, solo and lanes agree.
        with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
            outputs = logits(model(inputs))
        return outputs.float()

    return autocast


def objective(
    loss: Callable[[Tensor, Tensor], Tensor], precision: Precision, device: str, *, compiled: bool
) -> Objective:
    """Return (model, inputs, targets) -> the mean loss. All runs share one, so that it is compiled once."""
    run = forward(precision, device)

    def compute(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return loss(run(model, inputs), targets)

    return torch.compile(compute) if compiled else compute
