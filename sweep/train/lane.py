"""Lane: one run in training, and its step. Every run, alone or packed, trains by `step`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sweep.determinism import digest, seeding
from sweep.handle import Run
from sweep.plan import content_id
from sweep.train.augment import altered, alters, epoch_key, example_keys
from sweep.train.data import Dataset
from sweep.train.feed import Feed, feed_of
from sweep.train.precision import Objective, objective
from sweep.train.recipe import Recipe
from sweep.train.scoring import Scoring

KEPT = ("epoch", "offset", "rate", "seen", "chosen", "record", "stale")  # of a lane, unchanged in its checkpoints


@dataclass(frozen=True)
class Setup:
    """A recipe that any number of runs can train on a device.

    data: placed there. feed: brings batches; None: they are gathered on the device.
    """

    recipe: Recipe
    data: Dataset
    objective: Objective
    feed: Feed | None


def set_up(recipe: Recipe, run: Run, *, compiled: bool) -> Setup:
    """Load a recipe's data and place them on the run's device. compiled: the loss runs under torch.compile."""
    if recipe.compile:
        _compile_for(recipe_id(run))
    data = recipe.data()
    placed = data.placed(run.device, fed=recipe.loader_workers is not None)
    loss = objective(recipe.loss, recipe.precision, run.device, compiled=compiled)
    return Setup(recipe, placed, loss, feed_of(recipe, data, placed, run.device))


_COMPILED_FOR: list[str] = []


def _compile_for(key: str) -> None:
    """Forget what was compiled for another recipe.

    Torch compiles a function at most eight times. After that, it runs uncompiled with other bits, and only a log
    reports it.
    """
    if [key] != _COMPILED_FOR:
        torch.compiler.reset()
        _COMPILED_FOR[:] = [key]


@dataclass
class Lane:
    """One run in training. Tensors used by `step` keep their memory, so a graph may hold them.

    recipe, data, objective, feed: see `Setup`.
    lr: scalar on the device, None on a CPU, where fused optimizers take plain numbers. rate: its value.
    loss_sum: float64, the sum over this epoch's examples. seen: their number. key: of this epoch's augmentation.
    epoch: counts from 1. offset: the number of its finished batches. order: the generator of permutations before this
    epoch's was drawn. drawn: the one after that. average: of the parameters, if the recipe asks for one.
    chosen: the best value of `recipe.best`, its epoch and weights. stale: epochs since `stop_early` saw
    an improvement on `record`. index: its position among the runs that are trained together. generator: in a pack,
    the state of torch's CUDA generator for this run.
    """

    recipe: Recipe
    run: Run
    data: Dataset
    model: nn.Module
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    objective: Objective
    feed: Feed | None
    scoring: Scoring
    lr: Tensor | None
    loss_sum: Tensor
    key: Tensor
    order: torch.Generator
    drawn: torch.Generator
    average: list[Tensor] = field(default_factory=list)
    rate: float = float("nan")
    epoch: int = 1
    offset: int = 0
    seen: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)
    record: float | None = None
    stale: int = 0
    index: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)

    @property
    def device(self) -> str:
        return self.run.device

    @property
    def batches(self) -> int:
        """Return the number of batches in an epoch."""
        n, size = len(self.data.train), self.recipe.batch_size
        return max(1, n // size) if self.recipe.drop_last else -(-n // size)

    @property
    def step(self) -> int:
        """Return the number of finished steps."""
        return (self.epoch - 1) * self.batches + self.offset

    @property
    def point(self) -> tuple[bool, int, int]:
        """Return the point that its training has reached. Lanes at one point are trained as a pack."""
        return self.over, self.epoch, self.offset

    @property
    def over(self) -> bool:
        """Return whether the last epoch is done, by plan or by early stopping."""
        stop = self.recipe.stop_early
        return self.epoch > self.recipe.epochs or (stop is not None and self.stale >= stop.patience)


def by_point(lanes: Iterable[Lane]) -> Iterator[tuple[bool, list[Lane]]]:
    """Yield the lanes at each point of training, and whether that is the end."""
    points: dict[tuple[bool, int, int], list[Lane]] = {}
    for lane in lanes:
        points.setdefault(lane.point, []).append(lane)
    yield from ((over, group) for (over, _, _), group in points.items())


def begin(setup: Setup, run: Run, index: int = 0) -> Lane:
    """Seed this process, and return a lane at its start or, if the run has a checkpoint, at that point.

    Torch's global generator is left in the state that the next step needs.
    """
    seeding.seed_everything(run.seed, deterministic=run.deterministic)
    lane = fresh(setup, run)
    lane.index = index
    state = run.restore()
    if state is None:
        run.digest("initial", digest.module(lane.model))
    else:
        adopt(lane, state)
    return lane


def fresh(setup: Setup, run: Run) -> Lane:
    """Return a lane at its start. Nothing is read from or written to the run's folder."""
    recipe, data = setup.recipe, setup.data
    torch.manual_seed(run.streams["init"])
    model = recipe.model(data).to(run.device)
    lr = torch.tensor(recipe.lr, dtype=torch.float32, device=run.device) if run.device == "cuda" else None
    order = seeding.generator(run.streams["order"])
    parameters = list(model.parameters())
    lane = Lane(
        recipe=recipe, run=run, data=data, model=model, parameters=parameters,
        objective=setup.objective, feed=setup.feed, scoring=recipe.scoring(data),
        optimizer=recipe.optimizer(parameters, recipe.lr if lr is None else lr), lr=lr,
        loss_sum=torch.zeros((), dtype=torch.float64, device=run.device),
        key=torch.zeros((), dtype=torch.int64, device=run.device),
        order=order, drawn=order,
        average=[each.detach().clone() for each in parameters] if recipe.average is not None else [],
    )  # fmt: skip
    torch.manual_seed(run.streams["dropout"])
    return lane


def rehearse(setup: Setup, run: Run) -> None:
    """Do a step of each batch size on a temporary lane.

    Compiling draws from the ambient random streams, and here these draws belong to no run. Seed the streams
    afterwards.
    """
    lane = fresh(setup, run)
    first, *others = start_epoch(lane)
    for inputs, targets in brought(lane, [first, *(each for each in others if len(each) < len(first))]):
        update(lane, inputs, targets)


def start_epoch(lane: Lane) -> list[Tensor]:
    """Return the positions of every batch of this epoch, int64 on the CPU, and prepare the model and its keys."""
    lane.model.train()
    set_key(lane)
    order, lane.drawn = draw_order(lane, lane.order)
    return list(torch.split(order, lane.recipe.batch_size))


def draw_order(lane: Lane, before: torch.Generator, out: Tensor | None = None) -> tuple[Tensor, torch.Generator]:
    """Return the order of an epoch's examples as positions, int64 on the CPU, and the generator after it was drawn.

    before: the generator, which is left as it is. out: int64 (examples of train,), to which they are written.
    """
    after = before.clone_state()
    permutation = torch.randperm(len(lane.data.train), generator=after, out=out)
    return permutation[: lane.batches * lane.recipe.batch_size], after


def set_key(lane: Lane) -> None:
    """Set the key of this epoch, which augmentation reads."""
    if alters(lane.recipe):
        lane.key.fill_(epoch_key(lane.run.streams["augment"], lane.epoch))


def set_rate(lane: Lane, rate: float) -> None:
    """Write the learning rate of the next step to the place where the optimizer reads it."""
    if rate == lane.rate:
        return
    lane.rate = rate
    if lane.lr is not None:
        lane.lr.fill_(rate)
        return
    for group in lane.optimizer.param_groups:
        group["lr"] = rate


def epoch_rates(lane: Lane) -> list[float]:
    """Return the learning rate of every step of this epoch."""
    recipe, steps = lane.recipe, lane.batches
    done = (lane.epoch - 1) * steps
    return [recipe.lr * recipe.schedule(done + step, recipe.epochs * steps) for step in range(steps)]


def brought(lane: Lane, positions: Sequence[Tensor], start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches at these positions from batch `start` on, as the model gets them, on the device."""
    if lane.feed is not None:
        yield from lane.feed.alone(lane.epoch, lane.run.streams["augment"], positions[start:])
        return
    placed = torch.split(torch.cat(list(positions)).to(lane.device), lane.recipe.batch_size)
    for indices in placed[start:]:
        yield gather(lane, indices)


def gather(lane: Lane, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the augmented training batch at these positions, all on the device."""
    return augmented(lane, lane.data.train.inputs.index_select(0, indices), indices)


def augmented(lane: Lane, inputs: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch of these inputs, whose positions are `indices`, as the model gets it."""
    train = lane.data.train
    targets = train.targets.index_select(0, indices)
    if not alters(lane.recipe):
        return inputs, targets
    return altered(lane.recipe, inputs, targets, example_keys(lane.key, train.ids.index_select(0, indices)))


def step(lane: Lane, indices: Tensor) -> None:
    """Do a training step on the examples at `indices`, without reading anything back from the device."""
    update(lane, *gather(lane, indices))


def update(lane: Lane, inputs: Tensor, targets: Tensor) -> None:
    """Do the step on a given batch: loss, gradients, optimizer, running loss."""
    loss = lane.objective(lane.model, inputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    if lane.recipe.gradients is not None:
        used = [each for each in lane.parameters if each.grad is not None]
        for parameter, gradient in zip(
            used, lane.recipe.gradients([each.grad for each in used if each.grad is not None]), strict=True
        ):
            parameter.grad = gradient
    lane.optimizer.step()
    if lane.recipe.average is not None:
        for mean, parameter in zip(lane.average, lane.parameters, strict=True):
            mean.lerp_(parameter.detach(), 1 - lane.recipe.average)
    for parameter in lane.parameters:
        parameter.grad = None
    lane.loss_sum.add_(loss.detach(), alpha=len(targets))


def state_of(lane: Lane) -> dict[str, Any]:
    """Return all that a bit-exact continuation needs, except the ambient random streams, with tensors on the CPU."""
    return {
        "model": weights_of(lane.model),
        "optimizer": _cpu(lane.optimizer.state_dict()),
        "order": lane.order.get_state(),
        "loss_sum": _cpu(lane.loss_sum),
        **{name: getattr(lane, name) for name in KEPT},
        **({"average": _cpu(lane.average)} if lane.average else {}),
    }


def adopt(lane: Lane, state: dict[str, Any]) -> None:
    """Restore a lane from the result of `state_of`, in the tensors it already has."""
    put_weights(lane.model, state["model"])
    for name in KEPT:
        setattr(lane, name, state[name])
    lane.optimizer.load_state_dict(state["optimizer"])
    if lane.lr is not None:
        lane.lr.fill_(lane.rate)
        for group in lane.optimizer.param_groups:
            group["lr"] = lane.lr  # loading put a copy in its place
    for mean, kept in zip(lane.average, state.get("average", ()), strict=True):
        mean.copy_(kept)
    lane.order.set_state(state["order"])
    lane.loss_sum.copy_(state["loss_sum"])


@torch.no_grad()
def take_average(lane: Lane) -> list[Tensor]:
    """Replace the weights by their average, and return the previous ones, or none if there is no average."""
    before = [each.detach().clone() for each in lane.parameters] if lane.average else []
    for parameter, mean in zip(lane.parameters, lane.average, strict=False):
        parameter.copy_(mean)
    return before


@contextmanager
def averaged(lane: Lane) -> Iterator[None]:
    """Give a lane's model the average of its weights within this block, if the recipe asks for one."""
    before = take_average(lane)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, kept in zip(lane.parameters, before, strict=False):
                parameter.copy_(kept)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers on the CPU, including those that a state dict leaves out."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors_of(model)}


@torch.no_grad()
def put_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the result of `weights_of` back into the existing tensors."""
    for name, tensor in tensors_of(model):
        tensor.copy_(weights[name])


def recipe_id(run: Run, **more: Any) -> str:
    """Return an identity that the runs of all seeds share: findings about one of them hold for all."""
    return content_id({**run.spec.to_json(), "seed": 0, "streams": {}, "repeat": run.spec.fold, **more})


def tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer of a model by name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _cpu(each) for key, each in value.items()}
    return [_cpu(each) for each in value] if isinstance(value, (list, tuple)) else value
