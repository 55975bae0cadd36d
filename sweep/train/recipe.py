"""Recipe: the parts of a training run as plain callables, from a short description. Torch is loaded by a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from sweep.errors import ConfigError
from sweep.train.params import Augment, Data, Model, Optimizer, Part, Precision, Schedule, StopEarly, parse_checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer

    from sweep.train.data import Dataset
    from sweep.train.losses import Loss
    from sweep.train.scoring import Scoring
    from sweep.train.source import Source
    from sweep.train.splits import Fold

Spec = TypeVar("Spec", bound=Part)


@dataclass(frozen=True)
class Recipe:
    """One training run for the built-in loop. Write a function that returns one.

    Attributes
    ----------
    data
        () -> Dataset, the same for every seed; called once for several runs.
    model
        Dataset -> module on the CPU, drawing its weights from torch's global generator.
    loss
        (outputs, targets) -> scalar, the mean over the batch.
    optimizer
        (parameters, lr) -> optimizer; lr is a float on a CPU and a scalar tensor on CUDA, where the
        loop changes it in place; `Adam(..., fused=True)` and `SGD(..., fused=True)` take both.
    lr
        the learning rate before the schedule is applied.
    schedule
        (i, n) -> factor; the learning rate of step i of n is lr * schedule(i, n).
    scoring
        Dataset -> Scoring, the metrics and predictions that are reported and saved.
    augment
        (inputs, keys) -> inputs for training batches; keys is int64 (batch,), different for each
        example and epoch: the only randomness it may use.
    mix
        (inputs, targets, keys) -> both, for training batches after augment; keys as there.
    gradients
        list of gradients -> those that the optimizer gets, by plain arithmetic (see `sweep.train.optim.clip`).
    average
        the decay of a moving average of the weights, which is then measured and saved; None: none.
    epochs
        passes over the training data.
    batch_size
        examples per step.
    drop_last
        leave out the last batch of an epoch if it is smaller.
    precision
        fp32, tf32 or bf16 (autocast). compile puts the loss of a batch under torch.compile.
    loader_workers
        None gathers batches on the device, or feeds them if the data would fill it. A number feeds
        them from a DataLoader.
    best
        the validation metric whose best epoch is the result; None for the final epoch.
    resplit
        32-bit seed or fold -> this recipe on another split of the same data, for `vary: [split]` and `folds`; None: it
        has only one split.
    meta
        Dataset -> plain values stored next to the weights, enough to rebuild the model.
    source
        the origin of the data, part of a run's identity; None: unknown.
    """

    data: Callable[[], Dataset]
    model: Callable[[Dataset], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter], float | Tensor], TorchOptimizer]
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


def adamw(lr: float = 1e-3, **more: Any) -> Optimizer:
    """Return AdamW as a part of a recipe. more: betas, eps, weight_decay."""
    return _part(Optimizer, {"name": "adamw", "lr": lr, **more}, "optimizer")


def sgd(lr: float = 0.05, **more: Any) -> Optimizer:
    """Return SGD as a part of a recipe. more: momentum, nesterov, weight_decay."""
    return _part(Optimizer, {"name": "sgd", "lr": lr, **more}, "optimizer")


def recipe(
    *,
    model: Callable[[Dataset], nn.Module],
    data: Any,
    loss: str | Callable[[Tensor, Tensor], Tensor] | Loss = "cross-entropy",
    optimizer: Any = "adamw",
    lr: float | None = None,
    schedule: Any = "cosine",
    epochs: int = 20,
    batch_size: int = 64,
    metrics: Mapping[str, Any] | Sequence[str] = (),
    scoring: Callable[[Dataset], Scoring] | None = None,
    augment: Any = None,
    mixup: float | None = None,
    clip: float | Callable[[list[Tensor]], list[Tensor]] | None = None,
    ema: float | None = None,
    scheduler_steps: Literal["epoch", "step"] = "epoch",
    stop_early: StopEarly | Mapping[str, Any] | None = None,
    checkpoint: str = "final",
    precision: Precision = "fp32",
    compile: bool = False,
    loader_workers: int | None = None,
    drop_last: bool = False,
) -> Recipe:
    """Return a recipe of your own model, data and loss for the built-in loop.

    Parameters
    ----------
    model : callable, Dataset -> module
        Called for each seed. `data.inputs`, `data.input_shape` and `data.outputs` are sizes. Its forward returns one
        tensor, or a mapping with `logits`, which the loss then gets.
    data : Source, pair (x, y) or callable
        A source of `sweep.data`, a pair, or a function that returns one of these or a `Dataset`.
    loss : str or callable, (outputs, targets) -> mean of a batch
        "cross-entropy": one class, or one class per pixel; classes are the second dimension of the outputs.
        "token-cross-entropy": one class per token; classes are the last dimension. "binary-cross-entropy": several
        labels of 0 or 1. "mse": numbers. "gaussian": one number with its variance. A single number is predicted in
        units of its standard deviation in train, several numbers in their own units. A target of -100 does not count.
    optimizer : str, part or callable, (parameters, lr) -> optimizer
        Such as `sweep.adamw(lr=...)` or `sweep.sgd(lr=...)`. A callable also needs `lr`.
    lr : float, optional
        The learning rate that a callable optimizer gets.
    schedule : str, mapping or callable
        "cosine", "constant", "step", a mapping with their parameters, (step, steps) -> factor, or optimizer -> torch
        scheduler.
    epochs : int
        Passes over the training data.
    batch_size : int
        Examples per step.
    metrics : sequence of str or mapping
        More metrics of the final model: "f1", "balanced_accuracy", "top5_accuracy", or a mapping of names to
        functions (predictions, targets) -> number or torchmetrics objects. They get probabilities, or values.
    scoring : callable, Dataset -> Scoring, optional
        The metrics and predictions that are saved. Default: the usual ones for the targets.
    augment : mapping or callable, (inputs, keys) -> inputs, optional
        {"shift": pixels, "flip": True}, or a function as in `Recipe`.
    mixup : float, optional
        The alpha of Beta(alpha, alpha). Each example is mixed with another one of its batch.
    clip : float or callable, gradients -> gradients, optional
        The maximum norm of all gradients together.
    ema : float, optional
        The decay of a moving average of the weights. The average is measured and saved.
    scheduler_steps : {"epoch", "step"}
        When a torch scheduler takes a step.
    stop_early, checkpoint, precision, compile, loader_workers, drop_last
        As for the built-in recipes: see `params.stop_early` and so on in their reference.

    Raises
    ------
    ConfigError
        A part is invalid. Its name is in the message.
    """
    from torch.nn import Module

    from sweep.train import augment as augmentation
    from sweep.train import losses, optim
    from sweep.train.scoring import NAMED, measured

    if isinstance(model, Module) or not callable(model):
        raise ConfigError(
            f"the model is a single {type(model).__name__} object, but every seed needs its own", where="model",
            hint="give a function: model=lambda data: MyNet(data.inputs, data.outputs)",
        )  # fmt: skip
    named = losses.find(loss)
    load, source = _loader(data, named)
    spec = None if callable(optimizer) else _part(Optimizer, optimizer, "optimizer")
    rate = lr if spec is None else spec.lr
    if rate is None or not rate > 0 or (spec is not None and lr is not None):
        raise ConfigError(
            f"{lr} is not a valid value", where="lr",
            hint="set lr above 0 for your own optimizer; set the rate of a built-in one in it: sweep.adamw(lr=...)",
        )  # fmt: skip
    try:
        best = parse_checkpoint(checkpoint)
    except ValueError as error:
        raise ConfigError(str(error), where="checkpoint") from None
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ConfigError(f"{count!r} is not a valid value", where=name, hint="give a whole number of at least 1")

    above = "give a number above 0"
    fits = {"ema": "give a number between 0 and 1, such as 0.999", "mixup": above, "clip": above}
    for name, share in (("ema", ema), ("mixup", mixup), ("clip", None if callable(clip) else clip)):
        if share is not None and not (share > 0 and (name != "ema" or share < 1)):
            raise ConfigError(f"{share!r} is not a valid value", where=name, hint=fits[name])
    more = metrics if isinstance(metrics, Mapping) else {each: NAMED.get(each) for each in metrics}
    if unknown := [str(name) for name, metric in more.items() if metric is None]:
        raise ConfigError(
            f"no metric is called {unknown[0]!r}", where="metrics", hint=f"name {', '.join(NAMED)}, or give a mapping"
        )
    judged = scoring or named.scoring
    if callable(loss):
        named = replace(named, scoring=judged)
    if not callable(schedule):
        rated: Callable[[int, int], float] = partial(optim.factor, _part(Schedule, schedule, "schedule"))
    elif len(signature(schedule).parameters) == 1:
        rated = optim.scheduled(schedule, rate, epochs, scheduler_steps)
    else:
        rated = schedule

    def made(split: int | Fold | None = None) -> Recipe:
        return Recipe(
            data=partial(load, split),
            model=model,
            loss=named.of,
            optimizer=optimizer if spec is None else partial(optim.build, spec),
            lr=rate,
            schedule=rated,
            scoring=(lambda data: measured(judged(data), more)) if more else judged,
            epochs=epochs,
            batch_size=batch_size,
            augment=augment
            if augment is None or callable(augment)
            else augmentation.augmenting(_part(Augment, augment, "augment"), partial(load, split)),
            mix=None if mixup is None else augmentation.mixup(mixup, partial(load, split)),
            gradients=clip if clip is None or callable(clip) else partial(optim.clip, clip),
            average=ema,
            drop_last=drop_last,
            precision=precision,
            compile=compile,
            loader_workers=loader_workers,
            stop_early=None if stop_early is None else _part(StopEarly, stop_early, "stop_early"),
            best=best,
            resplit=made,
            meta=named.meta,
            source=source,
        )

    return made()


def built_in(model: Model, data: Data, loss: Loss, **training: Any) -> Recipe:
    """Return the recipe of a built-in model on data that parameters name. training: as for `recipe`."""
    from sweep.train import models

    named = replace(loss, about={**(loss.about or {}), "model": model.model_dump(mode="json"), "dtype": "float32"})
    return recipe(
        model=lambda found: models.build(model, found.input_shape, named.meta(found)["outputs"]), data=data, loss=named,
        **training,
    )  # fmt: skip


def _part(kind: type[Spec], given: Any, where: str) -> Spec:
    """Return a part that is given by its name, by its parameters or as itself. Raises: ConfigError."""
    try:
        return kind.model_validate({"name": given} if isinstance(given, str) else given)
    except ValidationError as error:
        from sweep.config import explain

        raise explain(error, where=where, model=kind) from None


def _loader(data: Any, loss: Loss) -> tuple[Callable[[int | Fold | None], Dataset], Source | None]:
    """Return a function that loads the data with the split of a seed or fold, and their source if it is known."""
    from sweep.train.data import Dataset
    from sweep.train.data import load as loaded
    from sweep.train.source import Source, as_source

    if isinstance(data, Data):
        return partial(loaded, data, loss.kind), None
    if isinstance(data, Source) or not callable(data):
        source = as_source(data)
        return partial(loaded, source, loss.kind), source

    @lru_cache(maxsize=1)  # mixup and augmentation load the same data as the loop
    def load(split: int | Fold | None) -> Dataset:
        found = data()
        if not isinstance(found, Dataset):
            return loaded(as_source(found), loss.kind, split)
        if split is not None:
            raise ConfigError("these data have their own split", hint="leave folds out, and split out of vary")
        return found

    return load, None
