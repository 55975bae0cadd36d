"""The built-in trainer: epochs of steps, the log of each epoch, checkpoints, and the result."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from sweep.determinism import digest
from sweep.errors import ConfigError
from sweep.goals import better
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.store import Failure
from sweep.store.record import diverged
from sweep.train.data import Split
from sweep.train.evaluate import outputs_of, validation_sums
from sweep.train.lane import (
    Lane,
    augmented,
    averaged,
    begin,
    brought,
    epoch_rates,
    put_weights,
    rehearse,
    set_rate,
    set_up,
    start_epoch,
    state_of,
    take_average,
    update,
    weights_of,
)
from sweep.train.precision import flags
from sweep.train.recipe import Recipe

Metrics = dict[str, float]
Result = Metrics | Failure


def train(recipe: Recipe, runs: Sequence[Run]) -> Iterator[tuple[int, Result]]:
    """Train the runs one after the other, and yield each one's position with its metrics or why it has none.

    Exceptions of the recipe's parts, and `Interrupted` at a stop, reach the caller.
    """
    setup = set_up(recipe, runs[0], compiled=recipe.compile)
    if recipe.compile:
        with flags(recipe.precision):
            rehearse(setup, runs[0])
    for index, run in enumerate(runs):
        if recipe.precision == "tf32" and run.device == "cpu":
            run.note("tf32 has no effect on a CPU: this run uses fp32")
        with flags(recipe.precision):
            yield index, solo(begin(setup, run))


def solo(lane: Lane) -> Result:
    """Train a lane from its current point to its end."""
    while not lane.over:
        train_epoch(lane)
        failure = turn(lane, epoch_sums(lane).tolist())
        if failure is not None:
            return failure
        if lane.run.checkpoint_due(epoch_end=True):
            save(lane)
    return conclude(lane)


def train_epoch(lane: Lane) -> None:
    """Do the steps of an epoch that are not yet done."""
    run, start = lane.run, lane.offset
    indices, rates = start_epoch(lane), epoch_rates(lane)
    if lane.epoch == 1 and start == 0:
        say_first_batch(lane, indices[0])
    for inputs, targets in brought(lane, indices, start):
        set_rate(lane, rates[lane.offset])
        update(lane, inputs, targets)
        lane.offset += 1
        lane.seen += len(targets)
        report_step(lane)
        if run.checkpoint_due(epoch_end=False):
            save(lane)


def say_first_batch(lane: Lane, indices: Tensor) -> None:
    """Add the first batch, as the model will get it, to the chain."""
    train, placed = lane.data.train, indices.to(lane.device)
    # If a feed brings the batches, the inputs are still on the CPU.
    inputs = train.inputs.index_select(0, indices.to(train.inputs.device)).to(lane.device)
    ids = train.ids.index_select(0, placed)
    inputs, targets = augmented(lane, inputs, placed)
    lane.run.digest("first_batch", digest.tensors({"inputs": inputs, "targets": targets, "ids": ids}))


def report_step(lane: Lane) -> None:
    """Report a finished step to the observer of this run, if it has one."""
    if lane.run.on_step is not None:

        def state() -> dict[str, Any]:
            if lane.run.device == "cuda":
                torch.cuda.synchronize()
            return state_of(lane)

        lane.run.on_step(lane.step, state)


def save(lane: Lane) -> None:
    """Save a checkpoint of this moment. Raises: Interrupted, once it is written, if a stop was requested."""
    lane.run.checkpoint(state_of(lane), step=lane.step)


def save_all(lanes: Iterable[tuple[Lane, AbstractContextManager[None]]]) -> None:
    """Save a checkpoint of each lane, within its context. Raises: Interrupted, after the last, at a stop."""
    stopped = None
    for lane, within in lanes:
        with within:
            try:
                save(lane)
            except Interrupted as stop:
                stopped = stop
    if stopped is not None:
        raise stopped


def epoch_sums(lane: Lane) -> Tensor:
    """Return the epoch's training loss, then the sums over val, float64 on the device. Read once per epoch."""
    with averaged(lane):
        return torch.cat([lane.loss_sum.view(1), validation_sums(lane)])


def guarded(work: Callable[..., Any], lane: Lane, *rest: Any) -> Any:
    """Return the result of `work` for a lane of a pack. An exception of the lane's own code fails only that lane."""
    try:
        return work(lane, *rest)
    except (OSError, torch.OutOfMemoryError, torch.AcceleratorError):  # disk or device: it concerns the whole pack
        raise
    except Exception as error:
        lane.run.attempt.log_text("".join(traceback.format_exception(error)))
        return Failure("raised", str(error), "train", type(error).__name__)


def turn(lane: Lane, sums: Sequence[float]) -> Failure | None:
    """Log and digest a finished epoch, and remember the best one. Return a failure if a metric is not finite.

    sums: the values of `epoch_sums`.
    """
    train_loss, *sums = sums
    n = len(lane.data.val)
    row = {
        "train/loss": train_loss / lane.seen,
        "val/loss": sums[0] / n,
        **{f"val/{name}": value for name, value in lane.scoring.read(sums[1:], n).items()},
        "lr": lane.rate,
    }
    lane.run.digest(f"epoch/{lane.epoch}", digest.module(lane.model))
    lane.run.log(row, step=lane.epoch)
    remember(lane, row)
    lane.epoch, lane.offset, lane.seen = lane.epoch + 1, 0, 0
    lane.order = lane.drawn
    lane.loss_sum.zero_()
    return diverged(row, f"epoch {lane.epoch - 1}")


def remember(lane: Lane, row: Metrics) -> None:
    """Keep the weights of the best epoch so far, and count the epochs without improvement, both judged on val."""
    best, stop = lane.recipe.best, lane.recipe.stop_early
    if best is not None:
        value = _validation(row, best)
        if isfinite(value) and (not lane.chosen or better(best, value, lane.chosen["value"])):
            with averaged(lane):
                weights = weights_of(lane.model)
            lane.chosen = {"value": value, "epoch": lane.epoch, "weights": weights, "row": row}
    if stop is not None:
        value = _validation(row, stop.metric)
        improved = lane.record is None or (
            better(stop.metric, value, lane.record) and abs(value - lane.record) > stop.min_delta
        )
        lane.record, lane.stale = (value, 0) if improved else (lane.record, lane.stale + 1)


def _validation(row: Metrics, metric: str) -> float:
    if metric not in row:
        names = ", ".join(name for name in row if name.startswith("val/"))
        raise ConfigError(f"{metric} is not measured", hint=f"name a metric that this recipe measures: {names}")
    return row[metric]


def _with_ids(split: Split, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return predictions with ids: those of the examples, or one per token or pixel if an example has several."""
    rows, ids = found.get("rows"), split.ids.cpu()
    if rows is None:
        return {"ids": ids, **found}
    each = split.targets[0].numel()
    ids = (ids[:, None] * each + torch.arange(each)).flatten()[rows]
    return {"ids": ids, **{name: value for name, value in found.items() if name != "rows"}}


def conclude(lane: Lane) -> Result:
    """Return the result of a trained lane: weights, predictions and metrics, at the epoch that its rule names."""
    run, row = lane.run, lane.run.last
    rule, epoch = "final", lane.epoch - 1
    if lane.chosen:
        rule, epoch, row = f"best({lane.recipe.best})", lane.chosen["epoch"], lane.chosen["row"]
        put_weights(lane.model, lane.chosen["weights"])
    else:
        take_average(lane)
    metrics = {name: row[name] for name in row if name != "lr"}
    fitted = lane.scoring.fit(*outputs_of(lane, lane.data.val))
    predictions = {}
    for name, split in (("val", lane.data.val), ("test", lane.data.test)):
        scores, predictions[name] = lane.scoring.score(*outputs_of(lane, split), fitted)
        metrics.update({f"{name}/{key}": value for key, value in scores.items()})
    run.digest("final", digest.module(lane.model))
    data = lane.data
    run.result(rule, epoch, {"train": len(data.train), "val": len(data.val), "test": len(data.test)})
    failure = diverged(metrics, f"epoch {epoch}")
    if failure is not None:
        return failure
    for name, split in (("val", lane.data.val), ("test", lane.data.test)):
        if predictions[name]:
            run.save_predictions(name, **_with_ids(split, predictions[name]))
        else:
            run.note(f"predictions for {name} were not saved: they are too large")
    precise = {} if lane.recipe.precision == "fp32" else {"precision": lane.recipe.precision}
    run.save_model(lane.model, meta={**lane.recipe.meta(lane.data), **fitted, **precise})
    return metrics
