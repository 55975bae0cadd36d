"""Several outputs per example, more metrics, and parts that change gradients, batches, weights and the rate."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training import Killed, dies_at, finish, handle

import sweep
from sweep.errors import ConfigError
from sweep.train import optim, vector
from sweep.train.augment import mixup
from sweep.train.check import check
from sweep.train.lane import begin, set_up
from sweep.train.loop import train_epoch

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))
import gpukit as kit

DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(120, 5)).astype(np.float32)
LABELS = (TABLE @ DRAW.normal(size=(5, 3))).argmax(1)
TEXT = "the quick brown fox jumps over the lazy dog; " * 40


def mlp(data: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, data.outputs))


def bigrams(data: Any) -> nn.Module:
    return nn.Sequential(nn.Embedding(data.vocabulary, 8), nn.Linear(8, data.outputs))


def made(y: Any = LABELS, **options: Any) -> sweep.Recipe:
    return sweep.recipe(**{"model": mlp, "data": (TABLE, y), "epochs": 2, "batch_size": 16, **options})


def ended(recipe: sweep.Recipe, folder: Path) -> Any:
    run = handle(folder)
    result = finish(check(recipe, "my:recipe", "cpu"), run)
    assert isinstance(result, dict), result
    return run, result


def kept(folder: Path, split: str = "test") -> Any:
    return np.load(folder / f"predictions-{split}.npz")


# More than one output.


def test_a_model_of_tokens_is_judged_by_each_of_them(tmp_path: Path) -> None:
    recipe = sweep.recipe(
        model=bigrams, data=sweep.data.text(TEXT, 16), loss="token-cross-entropy", epochs=8, batch_size=8,
        optimizer=sweep.adamw(lr=0.05),
    )  # fmt: skip
    _, result = ended(recipe, tmp_path / "run")
    data = recipe.data()
    assert data.train.ids.max() < data.val.ids.min() < data.test.ids.min()  # no test text before train's
    assert result["test/perplexity"] == pytest.approx(np.exp(result["test/nll"]))
    assert result["test/perplexity"] < len(data.classes) / 3
    found = kept(tmp_path / "run")
    assert found["probs"].shape == (len(data.test) * 16, len(data.classes))
    assert found["ids"][17] == int(data.test.ids[1]) * 16 + 1
    nll = -np.log(found["probs"][np.arange(len(found["targets"])), found["targets"]]).mean()
    assert nll == pytest.approx(result["test/nll"], rel=1e-4)


def test_targets_that_do_not_count_are_neither_learnt_nor_judged(tmp_path: Path) -> None:
    x = DRAW.integers(0, 5, size=(60, 6))
    y = np.where(np.arange(6) < 4, x, -100)
    recipe = sweep.recipe(
        model=lambda data: nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)), loss="token-cross-entropy",
        data=sweep.data.arrays(x, y, normalise=False), epochs=10, batch_size=8, optimizer=sweep.adamw(lr=0.05),
    )  # fmt: skip
    run, result = ended(recipe, tmp_path / "run")
    assert result["test/accuracy"] == run.last["val/accuracy"] == 1.0
    assert (kept(tmp_path / "run")["targets"] >= 0).all()
    assert len(kept(tmp_path / "run")["ids"]) == len(recipe.data().test) * 4


def test_pixels_labels_and_several_numbers_each_have_their_measures(tmp_path: Path) -> None:
    images = DRAW.normal(size=(60, 1, 6, 6)).astype(np.float32)
    conv = sweep.recipe(
        model=lambda data: nn.Conv2d(1, data.outputs, 1), data=(images, (images[:, 0] > 0).astype(int)), epochs=20,
        batch_size=8, optimizer=sweep.adamw(lr=0.1),
    )  # fmt: skip
    _, result = ended(conv, tmp_path / "pixels")
    assert result["test/iou"] > 0.9
    assert kept(tmp_path / "pixels")["probs"].shape == (len(conv.data().test) * 36, 2)
    several = TABLE[:, :2] > 0
    fast: Any = {"epochs": 30, "optimizer": sweep.adamw(lr=0.02)}
    _, result = ended(made(several, loss="binary-cross-entropy", **fast), tmp_path / "labels")
    assert result["test/f1"] > 0.8
    assert kept(tmp_path / "labels")["mean"].shape[1] == 2
    _, result = ended(made(TABLE[:, :2] * 2, loss="mse", **fast), tmp_path / "values")
    assert result["test/r2"] > 0.8
    assert kept(tmp_path / "values")["targets"].shape[1] == 2
    with pytest.raises(ConfigError, match="0 or 1"):
        check(made(TABLE[:, :2], loss="binary-cross-entropy"), "my:recipe", "cpu")


# More metrics.


def test_metrics_are_named_or_functions_of_what_is_kept(tmp_path: Path) -> None:
    def surest(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return probs.max()

    _, one = ended(made(metrics=["f1", "balanced_accuracy", "top5_accuracy"]), tmp_path / "one")
    assert one["test/top5_accuracy"] == 1.0
    from sklearn.metrics import balanced_accuracy_score, f1_score

    found = kept(tmp_path / "one")
    assert one["test/f1"] == pytest.approx(f1_score(found["targets"], found["probs"].argmax(1), average="macro"))
    wanted = balanced_accuracy_score(found["targets"], found["probs"].argmax(1))
    assert one["test/balanced_accuracy"] == pytest.approx(wanted)
    _, two = ended(made(metrics={"surest": surest}), tmp_path / "two")
    assert two["test/surest"] == pytest.approx(float(found["probs"].max()))
    assert {"test/surest", "val/surest"} <= two.keys() - one.keys()
    with pytest.raises(ConfigError, match="balanced_accuracy"):
        made(metrics=["f2"])


def test_objects_of_torchmetrics_begin_empty_in_every_run(tmp_path: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    metric = torchmetrics.Accuracy(task="multiclass", num_classes=3, average="micro")
    recipe = made(metrics={"theirs": metric})
    for name in ("one", "two"):
        _, result = ended(recipe, tmp_path / name)
        assert result["test/theirs"] == pytest.approx(result["test/accuracy"])
        assert result["val/theirs"] == pytest.approx(result["val/accuracy"])


# Parts.


def test_clipping_is_that_of_torch() -> None:
    gradients = [torch.randn(4, 3), torch.randn(7) * 5]
    for most in (0.5, 1e3):
        leaves = [nn.Parameter(torch.zeros_like(each)) for each in gradients]
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient.clone()
        nn.utils.clip_grad_norm_(leaves, most)
        for leaf, ours in zip(leaves, optim.clip(most, gradients), strict=True):
            assert leaf.grad is not None
            assert torch.allclose(leaf.grad, ours)


def test_a_scheduler_of_torch_gives_its_rates_at_any_step() -> None:
    made_by = torch.optim.lr_scheduler
    by_epoch = optim.scheduled(lambda o: made_by.StepLR(o, 2, 0.1), 0.5, 6, "epoch")
    assert [by_epoch(step, 12) for step in (0, 3, 4, 8, 11)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    by_step = optim.scheduled(lambda o: made_by.CosineAnnealingLR(o, 10, eta_min=0.05), 0.5, 5, "step")
    assert by_step(10, 11) == pytest.approx(0.1)
    assert made(schedule=lambda o: made_by.ExponentialLR(o, 0.5)).schedule(8, 16) == pytest.approx(0.5)


def test_mixup_mixes_each_example_with_its_neighbour_by_a_share_of_its_key() -> None:
    data = made().data()
    mix = mixup(0.4, lambda: data)
    x, y, keys = data.train.inputs[:16], data.train.targets[:16], torch.arange(16) * 7919
    mixed, shares = mix(x, y, keys)
    assert torch.allclose(shares.sum(1), torch.ones(16))
    share = (mixed[1] - x[0]) / (x[1] - x[0])
    assert torch.allclose(share, share[0], atol=1e-4)
    assert torch.equal(mix(x, y, keys)[0], mixed)
    assert not torch.equal(mix(x, y, keys + 1)[0], mixed)
    with pytest.raises(ConfigError, match="mixup"):
        mix(y[:, None], y, keys)


def test_a_function_of_data_is_called_once_for_a_run_that_mixes(tmp_path: Path) -> None:
    calls = []

    def data() -> Any:
        calls.append(1)
        return TABLE, LABELS

    assert isinstance(finish(made(data=data, mixup=0.3), handle(tmp_path / "run")), dict)
    assert len(calls) == 1


def test_a_loader_brings_the_mixed_batches_that_are_gathered_without_one(tmp_path: Path) -> None:
    recipe = made(mixup=0.3)
    chains = []
    for workers in (None, 0):
        run, _ = ended(replace(recipe, loader_workers=workers), tmp_path / str(workers))
        chains.append(run.chain)
    assert chains[0] == chains[1]


def test_the_average_of_the_weights_is_what_is_measured_and_saved(tmp_path: Path) -> None:
    recipe = made(ema=0.9, epochs=1)
    run = handle(tmp_path / "watched")
    lane = begin(set_up(replace(recipe, loader_workers=0), run, compiled=False), run)
    mean = [each.detach().clone() for each in lane.parameters]
    step = lane.optimizer.step

    def stepped() -> None:
        step()
        for each, parameter in zip(mean, lane.parameters, strict=True):
            each.mul_(0.9).add_(parameter.detach(), alpha=0.1)

    lane.optimizer.step = stepped  # type: ignore[method-assign,assignment]
    train_epoch(lane)
    run.attempt.close()
    for each, ours in zip(mean, lane.average, strict=True):
        assert torch.allclose(each, ours, atol=1e-6)
    ended(recipe, tmp_path / "run")
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.allclose(saved["0.weight"], mean[0], atol=1e-5)
    assert not torch.allclose(saved["0.weight"], lane.parameters[0], atol=1e-4)


def test_the_best_epoch_comes_back_with_buffers_that_no_state_dict_holds(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)
            self.register_buffer("mask", torch.ones(5), persistent=False)

        def forward(self, inputs: torch.Tensor) -> Any:
            return self.layer(inputs * self.mask)

    run, _ = ended(made(model=lambda data: Masked(), checkpoint="best(val/loss)"), tmp_path / "run")
    assert run.chain["final"] == run.chain[f"epoch/{run.outcome['epoch']}"]


EVERYTHING: Any = {
    "clip": 0.5, "ema": 0.95, "mixup": 0.3, "checkpoint": "best(val/loss)",
    "schedule": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7),
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 5, 7])
def test_a_run_with_every_part_that_was_interrupted_ends_with_the_same_bits(step: int, tmp_path: Path) -> None:
    recipe = made(**EVERYTHING)
    whole, _ = ended(recipe, tmp_path / "whole")
    first = handle(tmp_path / "first", every=(0, 1e-9))
    with pytest.raises(Killed):
        finish(dies_at(recipe, step), first)
    again = handle(tmp_path / "again", previous=(tmp_path / "first",))
    finish(recipe, again)
    assert again.resumed
    assert again.chain == whole.chain


def test_rows_that_are_clipped_and_mixed_have_the_bits_that_each_has_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ema"):
        check(made(ema=0.9), "my:recipe", "cpu", vectorize=4)
    torch.set_num_threads(1)
    four = LABELS + (TABLE[:, 0] > 1)
    recipe = made(four, clip=0.5, mixup=0.3)

    def trained(seeds: Any, name: str) -> dict[int, Any]:
        runs = [kit.handle(tmp_path / f"{name}{seed}", seed, vectorize=4, device="cpu") for seed in seeds]
        for result in kit.train(vector.train, recipe, runs).values():
            assert isinstance(result, dict), result
        return {run.seed: kit.chain(run) for run in runs}

    alone = trained([2], "alone")[2]
    assert trained(range(4), "together")[2] == alone
    unclipped = kit.handle(tmp_path / "plain" / "2", 2, vectorize=4, device="cpu")
    kit.train(vector.train, made(four, mixup=0.3), [unclipped])
    assert kit.chain(unclipped) != alone
