"""Vectorised lanes: at one width a seed has its bits whatever the other rows hold, and after any interruption."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))

import gpukit as kit

from sweep.errors import SweepError
from sweep.job import Interrupted
from sweep.plan import stream_seed
from sweep.store import Failure
from sweep.train import vector
from sweep.train.augment import build
from sweep.train.data import Dataset
from sweep.train.lane import set_up
from sweep.train.params import Augment, StopEarly
from sweep.train.recipe import Recipe
from sweep.train.vector import packs, row, stack

WIDTH = 8
Chains = dict[int, Mapping[str, str]]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def handles(folder: Path, seeds: Sequence[int], name: str = "", **more: Any) -> list[Any]:
    """Runs of one recipe, which is checked once in this folder. name: of the launch."""
    return [kit.handle(folder / f"{name}{seed}", seed, vectorize=WIDTH, device="cpu", **more) for seed in seeds]


def trained(made: Recipe, folder: Path, seeds: Sequence[int], name: str = "") -> Chains:
    runs = handles(folder, seeds, name)
    for seed, result in kit.train(vector.train, made, runs).items():
        assert not isinstance(result, Failure), (seed, result)
    return {run.seed: kit.chain(run) for run in runs}


def resumed(made: Recipe, folder: Path, seeds: Sequence[int], looks: int, again: Sequence[int]) -> list[Any]:
    """Stop the seeds at a look after so many, and train runs of seeds `again` that resume from them."""
    left = [None] * looks

    def stopping() -> bool:
        return not left or bool(left.pop())

    with pytest.raises(Interrupted):
        kit.train(vector.train, made, handles(folder, seeds, f"first{looks}-", stopping=stopping, every=(0, 0)))
    found = [
        run
        for seed in again
        for run in handles(folder, [seed], f"again{looks}-", previous=(folder / f"first{looks}-{seed}",))
    ]
    kit.train(vector.train, made, found)
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Chains:
    return trained(kit.recipe("mlp"), tmp_path_factory.mktemp("plain"), range(4))


@pytest.fixture(scope="module")
def small_batches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Chains]:
    """A recipe, the folder in which it is checked, and what it gives for the seeds of two packs and a part of one."""
    made, folder = kit.recipe("mlp", batch_size=8, epochs=3), tmp_path_factory.mktemp("small batches")
    return made, folder, trained(made, folder, range(2 * WIDTH + 3), "in turn")


@pytest.mark.parametrize(("model", "optimizer"), [("mlp", "sgd"), ("cnn", "adamw")])
def test_a_seed_has_its_bits_in_any_company_and_row(model: str, optimizer: str, tmp_path: Path) -> None:
    made = kit.recipe(model, optimizer)
    wanted = trained(made, tmp_path, range(WIDTH), "full")
    assert len({links["final"] for links in wanted.values()}) == WIDTH
    assert trained(made, tmp_path, [3], "alone") == {3: wanted[3]}
    backwards = trained(made, tmp_path, range(WIDTH + 1, -1, -1), "two packs")
    assert {seed: backwards[seed] for seed in wanted} == wanted


@pytest.mark.parametrize("after", [1, 9, 12])  # within the first epoch, at its end, within the second
def test_an_interrupted_pack_goes_on_to_the_same_bits_in_other_company(
    after: int, small_batches: tuple[Recipe, Path, Chains]
) -> None:
    made, folder, wanted = small_batches
    again = resumed(made, folder, range(4), after, [3, 0, 9])
    assert [run.resumed for run in again] == [True, True, False]
    assert {run.seed: kit.chain(run) for run in again} == {seed: wanted[seed] for seed in (3, 0, 9)}


@pytest.fixture
def three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs that train side by side, as on a GPU with room for them."""
    monkeypatch.setattr(packs, "packed", lambda indices, most, attempt, least: attempt(indices))


@pytest.mark.usefixtures("three_at_once")
def test_packs_side_by_side_have_the_bits_of_packs_in_turn(
    small_batches: tuple[Recipe, Path, Chains], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder, wanted = small_batches
    steps: list[int] = []
    step = stack.Stack.step

    def watched(self: stack.Stack, *given: Any) -> None:
        steps.append(id(self))
        step(self, *given)

    monkeypatch.setattr(stack.Stack, "step", watched)
    found = trained(made, folder, list(wanted), "beside")
    turns = [a for a, b in pairwise([*steps, 0]) if a != b]
    assert max(Counter(turns).values()) > 1  # a pack came back to the device after another's turn
    assert len(set(steps[-50:])) == 3
    assert found == wanted


@pytest.mark.usefixtures("three_at_once")
def test_a_stop_saves_every_pack(small_batches: tuple[Recipe, Path, Chains]) -> None:
    made, folder, wanted = small_batches
    seeds = range(2 * WIDTH + 1)
    again = resumed(made, folder, seeds, 7, seeds)
    assert all(run.resumed for run in again)
    assert {run.seed: kit.chain(run) for run in again} == {seed: wanted[seed] for seed in seeds}


def test_a_lane_that_diverges_or_ends_early_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    bad = 2

    def model(data: Dataset) -> nn.Module:
        net = kit.mlp(data)
        if torch.initial_seed() == stream_seed(bad, "init"):
            with torch.no_grad():
                next(net.parameters()).fill_(float("nan"))
        return net

    made = replace(
        kit.recipe("mlp"), epochs=8, lr=0.02, stop_early=StopEarly(metric="val/accuracy", patience=1), best="val/loss",
        schedule=lambda step, steps: 1.0, model=model,
    )  # fmt: skip
    wanted = trained(made, tmp_path, [0, 1, 3, 4], "wanted")
    assert len({links["history"].count("\n") for links in wanted.values()}) > 1
    runs = handles(tmp_path, range(5), "mixed")
    results = kit.train(vector.train, made, runs)
    failure = results[bad]
    assert isinstance(failure, Failure)
    assert failure.kind == "diverged"
    assert {run.seed: kit.chain(run) for run in runs if run.seed != bad} == wanted


def test_batches_of_a_loader_and_augmentation_have_the_same_bits(plain: Chains, tmp_path: Path) -> None:
    made = kit.recipe("mlp", augment=build(Augment(shift=2, flip=True), torch.zeros(1, 1, 1)))
    wanted = trained(made, tmp_path / "gathered", range(3))
    assert wanted[0]["final"] != plain[0]["final"]
    assert trained(replace(made, loader_workers=0), tmp_path / "fed", range(3)) == wanted


class Coupled(torch.optim.SGD):
    """Divides every gradient by the norm of all that it is given: over stacked parameters, of all rows."""

    def step(self, closure: Any = None) -> Any:
        found = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.sqrt(sum(g.square().sum() for g in found))
        for g in found:
            g.div_(1 + norm)
        return super().step(closure)


def test_an_optimizer_that_couples_the_rows_is_refused_by_name(tmp_path: Path) -> None:
    made = kit.recipe("mlp", optimizer="sgd")
    made = replace(made, optimizer=lambda parameters, lr: Coupled(parameters, lr=lr))
    with pytest.raises(SweepError, match="cannot be vectorised") as error:
        trained(made, tmp_path, [0])
    assert "off" in error.value.hint


CALLS = [0]


class Late(nn.Module):
    """A layer whose Python changes what it does long after the first steps. counts: where it counts its calls."""

    def __init__(self, counts: str) -> None:
        super().__init__()
        self.counts, self.calls = counts, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.counts == "in itself":
            self.calls += 1
        elif self.counts == "in a list of the module":
            CALLS[0] += 1
        return x * (0.0 if max(self.calls, CALLS[0]) > 60 else 1.0)


class Caching(nn.Module):
    """A layer that keeps what it made in its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: float | None = None
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 1.5 if self.scale is None else self.scale
        self.calls.add_(1)
        return x * self.scale * (1 + self.calls / 10)


def topped(made: Recipe, layer: Any) -> Recipe:
    return replace(made, model=lambda data: nn.Sequential(kit.mlp(data), layer()))


def test_the_kernels_of_the_first_step_give_the_bits_of_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = topped(kit.recipe("mlp", batch_size=24), Caching)  # the last batch of an epoch is smaller
    found = trained(made, tmp_path / "traced", range(3))
    monkeypatch.setattr(stack, "Traced", lambda function: function)
    monkeypatch.setattr(packs, "check", lambda setup, run: None)
    assert trained(made, tmp_path / "in Python", range(3)) == found


@pytest.mark.parametrize(
    ("counts", "named"), [("in itself", r"changes model\.1 in"), ("in a list of the module", r"changes \S*CALLS in")]
)
def test_python_that_changes_from_step_to_step_is_refused(counts: str, named: str, tmp_path: Path) -> None:
    CALLS[0] = 0
    with pytest.raises(SweepError, match=named):
        trained(topped(kit.recipe("mlp"), lambda: Late(counts)), tmp_path / "late", range(3))


def test_so_is_a_loss_that_counts_and_one_that_draws(tmp_path: Path) -> None:
    def counting() -> Any:
        calls = 0

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return nn.functional.cross_entropy(outputs, targets)

        return loss

    with pytest.raises(SweepError, match="calls in each step"):
        trained(replace(kit.recipe("mlp"), loss=counting()), tmp_path / "counting", range(3))
    drawing = replace(kit.recipe("mlp"), loss=lambda o, t: nn.functional.cross_entropy(o, t) * random.random())
    with pytest.raises(SweepError, match="cannot be vectorised in width"):
        trained(drawing, tmp_path / "drawing", range(3))


class Noise(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)


@pytest.mark.filterwarnings("default")  # torch names what it has no batching rule for
@pytest.mark.parametrize(
    ("layer", "said"), [(lambda: Noise(), "random numbers"), (lambda: nn.LSTM(144, 48), "lstm")], ids=["noise", "lstm"]
)
def test_what_cannot_be_vectorised_is_refused_with_the_way_out(layer: Any, said: str, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer(), nn.LazyLinear(4)
            self.head(torch.zeros(1, 48 if said == "lstm" else 144))

        def forward(self, inputs: Tensor) -> Tensor:
            out = self.layer(inputs.flatten(1))
            return self.head(out[0] if isinstance(out, tuple) else out)

    with pytest.raises(SweepError, match=said):
        trained(replace(kit.recipe("mlp"), model=lambda data: Net()), tmp_path, [0])


def test_dropout_masks_have_their_rate_and_differ_by_seed_step_and_layer() -> None:
    inputs = torch.ones(1000, 20)

    def dropped(key: int, layers: int = 1) -> Tensor:
        with row.Row(torch.tensor(key), torch.tensor(0)):
            out = [nn.functional.dropout(inputs, 0.3) for _ in range(layers)]
        return out[-1]

    first = dropped(1)
    assert torch.equal(first, dropped(1))
    assert float((first == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(first.max()) == pytest.approx(1 / 0.7)
    for other in (dropped(2), dropped(1, 2)):
        same = float(((first == 0) == (other == 0)).float().mean())
        assert same == pytest.approx(0.3**2 + 0.7**2, abs=0.02)
    with row.Row(torch.tensor(1), torch.tensor(0)):
        channels = nn.functional.dropout2d(torch.ones(50, 40, 3, 3), 0.5)
        assert torch.equal(nn.functional.dropout(inputs, 0.3, training=False), inputs)
    assert set(channels.flatten(2).sum(2).unique().tolist()) == {0.0, 18.0}


def test_vectorised_attention_is_attention(tmp_path: Path) -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind(0)
    with row.Row(torch.tensor(1), torch.tensor(0)) as masks:
        masks._drop = lambda kept, weights, p: weights  # type: ignore[method-assign,assignment]
        found = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1, is_causal=True)
    wanted = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_cross_entropy_of_rows_is_cross_entropy() -> None:
    drawn = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 4, 3, generator=drawn, requires_grad=True)
    targets = torch.randint(0, 4, (6, 3), generator=drawn)
    targets[2, 1] = -100
    for kwargs in ({}, {"ignore_index": 2}, {"label_smoothing": 0.1}, {"reduction": "sum"}):
        kept = targets.clamp(min=0) if kwargs.get("ignore_index") else targets
        wanted = nn.functional.cross_entropy(outputs, kept, **kwargs)
        (gradient,) = torch.autograd.grad(wanted, outputs)
        found = row._cross_entropy(outputs, kept, **kwargs)
        assert torch.allclose(found, wanted, atol=1e-6)
        assert torch.allclose(torch.autograd.grad(found, outputs)[0], gradient, atol=1e-6)


def test_an_embedding_of_rows_is_an_embedding() -> None:
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 3, generator=drawn, requires_grad=True)
    ids, outer = torch.randint(0, 7, (5, 4), generator=drawn), torch.randn(5, 4, 3, generator=drawn)
    for kwargs in ({}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True}):
        wanted = nn.functional.embedding(ids, weight, **kwargs)
        (gradient,) = torch.autograd.grad(wanted, weight, outer)
        found = row._embedding(ids, weight, **kwargs)
        assert torch.equal(found, wanted)
        assert torch.allclose(torch.autograd.grad(found, weight, outer)[0], gradient, atol=1e-6)


def test_an_optimizer_is_given_the_groups_that_the_shapes_of_one_model_make(tmp_path: Path) -> None:
    """Stacked, a bias looks like a matrix: it must not decay where the recipe lets matrices alone decay."""

    def optimizer(parameters: Any, lr: Any) -> torch.optim.Optimizer:
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.5},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.SGD([group for group in groups if group["params"]], lr=lr)

    made = replace(kit.recipe("mlp", "sgd"), optimizer=optimizer)
    runs = handles(tmp_path, range(2))
    seen: list[list[dict[str, Any]]] = []
    step = stack.Stack.step

    def watched(self: stack.Stack, *given: Any) -> None:
        seen.append(self.optimizer.param_groups)
        step(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.Stack, "step", watched)
        kit.train(vector.train, made, runs)
    decayed, free = seen[-1]
    assert [tuple(p.shape) for p in decayed["params"]] == [(WIDTH, 48, 144), (WIDTH, 4, 48)]
    assert [tuple(p.shape) for p in free["params"]] == [(WIDTH, 48), (WIDTH, 4)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)


@pytest.mark.parametrize(("room", "said"), [(3, "vectorize=2"), (0, "off")])
def test_rows_that_do_not_fit_are_refused_with_the_width_that_does(
    room: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = stack.Stack.step

    def short(self: stack.Stack, *given: Any) -> None:
        if self.width > room:
            raise torch.OutOfMemoryError("full")
        step(self, *given)

    monkeypatch.setattr(stack.Stack, "step", short)
    with pytest.raises(SweepError, match=f"{WIDTH} rows do not fit") as error:
        trained(kit.recipe("mlp"), tmp_path, [0])
    assert said in error.value.hint


def test_another_recipe_is_compiled_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch compiles a function eight times and then runs it as it is, with other bits: each recipe has its eight."""
    reset: list[int] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: reset.append(1))
    made = replace(kit.recipe("mlp"), compile=True)
    first, second = handles(tmp_path / "first", range(2)), handles(tmp_path / "second", range(1))
    for runs in (first, first[1:], second):
        set_up(made, runs[0], compiled=False)
    assert len(reset) == 2
    set_up(replace(made, compile=False), first[0], compiled=False)
    assert len(reset) == 2


def test_an_exception_of_one_lane_is_its_own_failure(plain: Chains, tmp_path: Path) -> None:
    made = kit.recipe("mlp")
    fitted: list[int] = []

    def scoring(data: Dataset) -> Any:
        scores = made.scoring(data)

        def fit(outputs: Tensor, targets: Tensor) -> Any:
            fitted.append(1)
            if len(fitted) == 3:
                raise ValueError("the third of them cannot be scored")
            return scores.fit(outputs, targets)

        return replace(scores, fit=fit)

    runs = handles(tmp_path / "one fails", range(4))
    found = kit.train(vector.train, replace(made, scoring=scoring), runs)
    failed = found[2]
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.exception) == ("raised", "ValueError")
    assert {run.seed: kit.chain(run) for run in runs if run.seed != 2} == {s: plain[s] for s in (0, 1, 3)}
