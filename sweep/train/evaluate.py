"""A model's outputs on a split, and the sums over val from which an epoch's metrics are computed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sweep.train.data import Split
from sweep.train.lane import Lane
from sweep.train.precision import forward

BATCH = 1000  # fixed, because the bits of a sum depend on how it is cut


@torch.no_grad()
def _outputs(lane: Lane, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    lane.model.eval()
    run = forward(lane.recipe.precision, lane.device)
    batches = zip(torch.split(split.inputs, BATCH), torch.split(split.targets, BATCH), strict=True)
    for inputs, targets in batches:
        yield run(lane.model, inputs.to(lane.device)), targets


@torch.no_grad()
def validation_sums(lane: Lane) -> Tensor:
    """Return float64 (1 + k,) on the device: the summed loss over val, then the sums of `Scoring.tally`."""
    sums = [sums_of(lane, outputs, targets) for outputs, targets in _outputs(lane, lane.data.val)]
    return torch.stack(sums).sum(0)


def sums_of(lane: Lane, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return float64 (1 + k,): the summed loss of a batch, then the sums of `Scoring.tally`."""
    loss = lane.recipe.loss(outputs, targets).double() * len(targets)
    return torch.cat([loss.view(1), lane.scoring.tally(outputs, targets)])


def outputs_of(lane: Lane, split: Split) -> tuple[Tensor, Tensor]:
    """Return (outputs, targets) of a whole split on the CPU."""
    found = list(_outputs(lane, split))
    return torch.cat([each for each, _ in found]).cpu(), split.targets.cpu()
