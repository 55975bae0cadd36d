"""Packs on a stand-in for the GPU: each lane has its bits in one graph or many, from a loader, and after any stop.

The stand-in does at once what a GPU would queue, and a graph does its steps again when it is replayed. What it cannot
show is the order of work on a device: `tests/gpu` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))

import gpukit as kit

from sweep.job import Interrupted
from sweep.store import Failure
from sweep.train import lanes, loop, pack
from sweep.train.augment import build
from sweep.train.lane import set_up
from sweep.train.params import Augment
from sweep.train.probe import Known
from sweep.train.recipe import Recipe

Chains = Mapping[int, Mapping[str, str]]


class HostDevice(TorchFunctionMode):
    """A block in which tensors for the GPU are made on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        here = {name: "cpu" if name == "device" and each == "cuda" else each for name, each in (kwargs or {}).items()}
        return func(*("cpu" if isinstance(each, str) and each == "cuda" else each for each in args), **here)


class Stream:
    """A stream of work, all of which is done when it is given, or an event in it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class Generators:
    """Torch's generator of the CPU in place of a GPU's, which can take the state of another generator."""

    def __init__(self) -> None:
        self.own = self.now = torch.Generator()

    def graphsafe_get_state(self) -> torch.Generator:
        return self.now

    def graphsafe_set_state(self, other: torch.Generator) -> None:
        self.now.set_state(torch.get_rng_state())
        torch.set_rng_state(other.get_state())
        self.now = other


class Torch:
    """Torch, whose generators are those of the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def Generator(self, device: str) -> torch.Generator:
        return torch.Generator()


class Graph:
    """Steps that are done when they are replayed, and not before."""

    made = 0

    def __init__(self, root: Any, generators: Sequence[torch.Generator], body: Callable[[], None], pool: Any) -> None:
        self.replay = body
        Graph.made += 1

    def pool(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, value in {
        "init": lambda: None, "synchronize": lambda: None, "empty_cache": lambda: None, "current_device": lambda: 0,
        "stream": lambda stream: nullcontext(), "Stream": Stream, "Event": Stream, "default_generators": [Generators()],
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(lanes, "torch", Torch())
    monkeypatch.setattr(pack, "capture", Graph)
    monkeypatch.setattr(Graph, "made", 0)
    with HostDevice():
        yield
    torch.set_num_threads(threads)


def exact(step: int, steps: int) -> float:
    """Return a factor that float32 holds exactly: a graph reads its rate as float32."""
    return float(0.5 ** (4 * step // steps))


def recipe(**parts: Any) -> Recipe:
    return kit.recipe("mlp", **{"schedule": exact, "lr": 0.0625, **parts})


def handles(folder: Path, seeds: Sequence[int], **more: Any) -> list[Any]:
    return [kit.handle(folder / f"seed{seed}", seed, device="cpu", **more) for seed in seeds]


def together(made: Recipe, runs: Sequence[Any], one_graph: bool | None = True) -> Iterator[tuple[int, Any]]:
    setup = set_up(made, runs[0], compiled=False)
    return lanes._pack(setup, runs, [Stream() for _ in range(2)], Known(together=one_graph), range(len(runs)))  # type: ignore[misc]


def chains(trainer: Any, made: Recipe, runs: Sequence[Any]) -> Chains:
    for seed, result in kit.train(trainer, made, runs).items():
        assert not isinstance(result, Failure), (seed, result)
    return {run.seed: kit.chain(run) for run in runs}


def alone(made: Recipe, folder: Path, seeds: Sequence[int]) -> Chains:
    return chains(loop.train, made, handles(folder, seeds))


@pytest.mark.parametrize("one_graph", [True, False, None], ids=["one graph", "many graphs", "a trial of both"])
def test_lanes_of_a_pack_have_the_bits_that_they_have_alone(one_graph: bool | None, tmp_path: Path) -> None:
    made = recipe(batch_size=2) if one_graph is None else recipe()
    wanted = alone(made, tmp_path / "alone", range(5))
    assert len({links["final"] for links in wanted.values()}) == 5
    found = chains(lambda made, runs: together(made, runs, one_graph), made, handles(tmp_path / "pack", range(5)))
    assert found == wanted
    assert Graph.made  # the control: graphs did these steps


@pytest.mark.parametrize("one_graph", [True, False], ids=["one graph", "many graphs"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_a_loader_brings_have_the_bits_of_those_gathered(
    workers: int, one_graph: bool, tmp_path: Path
) -> None:
    made = recipe(augment=build(Augment(shift=2, flip=True), torch.zeros(1, 1, 1)))
    wanted = alone(made, tmp_path / "alone", range(3))
    brought = replace(made, loader_workers=workers)
    found = chains(lambda made, runs: together(made, runs, one_graph), brought, handles(tmp_path / "pack", range(3)))
    assert found == wanted


@pytest.mark.parametrize("workers", [None, 0])
@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_pack_resumes_to_the_same_bits(after: int, workers: int | None, tmp_path: Path) -> None:
    made, seeds = recipe(batch_size=4, loader_workers=workers), range(3)
    wanted = alone(made, tmp_path / "alone", seeds)
    looks: list[int] = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > after

    runs = handles(tmp_path / "first", seeds, stopping=stopping)
    with pytest.raises(Interrupted):
        kit.train(together, made, runs)
    assert any(tmp_path.glob("first/*/checkpoint-*")), "no lane was saved"
    again = [
        kit.handle(tmp_path / "second" / run.attempt.path.name, run.seed, device="cpu", previous=(run.attempt.path,))
        for run in runs
    ]
    assert {seed: links["final"] for seed, links in chains(together, made, again).items()} == {
        seed: links["final"] for seed, links in wanted.items()
    }


def test_a_lane_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    made = recipe()
    wanted = alone(made, tmp_path / "alone", range(3))

    def broken(data: Any) -> torch.nn.Module:
        model = kit.mlp(data)
        if torch.initial_seed() == runs[1].streams["init"]:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return model

    runs = handles(tmp_path / "pack", range(3))
    results = kit.train(together, replace(made, model=broken), runs)
    failed = results[1]
    assert isinstance(failed, Failure)
    assert failed.kind == "diverged"
    assert {seed: kit.chain(run) for seed, run in enumerate(runs) if seed != 1} == {
        seed: wanted[seed] for seed in (0, 2)
    }
