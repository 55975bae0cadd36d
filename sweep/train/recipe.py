"""Recipe: the parts of a training run as plain callables. Needs torch only when a part is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.train.params import Precision, StopEarly

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from sweep.train.data import Dataset
    from sweep.train.scoring import Scoring
    from sweep.train.source import Source
    from sweep.train.splits import Fold


@dataclass(frozen=True)
class Recipe:
    """Describe one training for the built-in loop; write a function that returns one.

    Attributes
    ----------
    data
        () -> Dataset, the same whatever the seed; called once for several runs.
    model
        Dataset -> module on the CPU, drawing its weights from torch's global generator.
    loss
        (outputs, targets) -> scalar, the mean over the batch.
    optimizer
        (parameters, lr) -> optimizer; lr is a float on a CPU and a scalar tensor on CUDA, where the
        loop changes it in place; `Adam(..., fused=True)` and `SGD(..., fused=True)` take both.
    lr, schedule
        the rate of step i of n is lr * schedule(i, n).
    scoring
        Dataset -> Scoring, what is reported and saved.
    augment
        (inputs, keys) -> inputs for training batches; keys is int64 (batch,), different for each
        example and epoch: the only randomness it may use.
    mix
        (inputs, targets, keys) -> both, for training batches after augment; keys as there.
    gradients
        list of gradients -> those that the optimizer gets, by plain arithmetic (see `sweep.train.parts`).
    average
        the decay of a moving average of the weights, which is then what is measured and saved; None: none.
    epochs, batch_size
        of training; drop_last leaves out the last, smaller batch of an epoch.
    precision
        fp32, tf32 or bf16 (autocast); compile: the loss of a batch under torch.compile.
    loader_workers
        None gathers batches on the device, or feeds them where the data would fill it; a number feeds
        them from a DataLoader.
    best
        the validation metric whose best epoch is the result; None for the final epoch.
    resplit
        32-bit seed or fold -> this recipe on another split of the same data, for `vary: [split]` and `folds`; None: it
        has one.
    meta
        Dataset -> plain values stored beside the weights, enough to rebuild the model.
    source
        what the data are read from, part of a run's identity; None: not known.
    """

    data: Callable[[], Dataset]
    model: Callable[[Dataset], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter], float | Tensor], Optimizer]
    lr: float
    schedule: Callable[[int, int], float]
    scoring: Callable[[Dataset], Scoring]
    epochs: int
    batch_size: int
    augment: Callable[[Tensor, Tensor], Tensor] | None = None
    mix: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    gradients: Callable[[list[Tensor]], list[Tensor]] | None = None
    average: float | None = None
    drop_last: bool = False
    precision: Precision = "fp32"
    compile: bool = False
    loader_workers: int | None = None
    stop_early: StopEarly | None = None
    best: str | None = None
    resplit: Callable[[int | Fold], Recipe] | None = None
    meta: Callable[[Dataset], Mapping[str, Any]] = lambda data: {}
    source: Source | None = None
