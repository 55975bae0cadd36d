"""Lanes have the bits of their solo runs: whatever the model, the packing, the neighbours or the interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gpukit as kit
import pytest
import torch
from torch import Tensor, nn

from sweep.job import Interrupted
from sweep.plan import stream_seed
from sweep.store import Failure
from sweep.train import data, lanes, loop
from sweep.train.augment import build
from sweep.train.data import Dataset
from sweep.train.feed import Belt
from sweep.train.params import Augment, StopEarly

PLAIN = [(m, o, p, False) for m in kit.MODELS for o in ("sgd", "adamw") for p in ("fp32", "bf16")]
COMPILED = [(m, o, p, True) for m, o, p, _ in PLAIN]


def name(case: tuple[str, str, str, bool]) -> str:
    return "-".join([*case[:3], "compiled" if case[3] else "plain"])


@pytest.mark.filterwarnings("default")  # torch's compiler warns about itself
@pytest.mark.parametrize("case", PLAIN + COMPILED, ids=name)
def test_every_lane_has_the_bits_of_its_solo_run(tmp_path: Path, case: tuple[str, str, str, bool]) -> None:
    model, optimizer, precision, compiled = case
    made = kit.recipe(model, optimizer, precision=precision, compile=compiled)
    wanted = kit.alone(made, tmp_path / "alone", range(16))
    assert len({links["final"] for links in wanted.values()}) == 16
    few = kit.in_lanes(made, tmp_path / "few", [0, 7, 15])
    assert few == {seed: wanted[seed] for seed in (0, 7, 15)}
    assert kit.in_lanes(made, tmp_path / "many", range(16)) == wanted


@pytest.mark.parametrize("together", [True, False], ids=["one-graph", "many-graphs"])
def test_packings_and_forms_of_the_same_seeds_agree(tmp_path: Path, together: bool) -> None:
    made = kit.recipe()
    wanted = kit.alone(made, tmp_path / "alone", range(40))
    # 40 lanes are more than there are streams.
    assert kit.in_lanes(made, tmp_path / "all", range(40), together) == wanted
    assert kit.in_lanes(made, tmp_path / "backwards", range(39, -1, -1), together) == wanted
    apart = {}
    for i in range(0, 40, 13):
        apart |= kit.in_lanes(made, tmp_path / f"from{i}", range(i, min(40, i + 13)), together)
    assert apart == wanted
    assert kit.in_lanes(made, tmp_path / "one", [11], together) == {11: wanted[11]}


def test_a_form_that_is_found_by_timing_changes_no_bit(tmp_path: Path) -> None:
    made = kit.recipe(batch_size=1)  # enough steps an epoch for the trial
    assert kit.in_lanes(made, tmp_path / "lanes", range(4)) == kit.alone(made, tmp_path / "alone", range(4))


@pytest.mark.parametrize("tool", ["lanes", "alone"])
@pytest.mark.parametrize("after", [9, 14])
def test_an_interrupted_pack_goes_on_to_the_same_bits(
    tmp_path: Path, tool: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seeds = kit.recipe(batch_size=4, epochs=2), range(5)
    wanted = kit.alone(made, tmp_path / "alone", seeds)
    looks = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > after

    runs = [kit.handle(tmp_path / f"first{seed}", seed, stopping=stopping, every=(0, 0)) for seed in seeds]
    with pytest.raises(Interrupted):
        kit.train(lanes.train, made, runs)
    again = [kit.handle(tmp_path / f"second{s}", s, previous=(tmp_path / f"first{s}",)) for s in seeds]
    if tool == "lanes":
        kit.train(lanes.train, made, again)
    else:
        for run in again:
            kit.train(loop.train, made, [run])
    assert all("resumed from step" in note for run in again for note in run.notes)
    assert {run.seed: kit.chain(run) for run in again} == wanted


def test_lanes_that_go_on_from_unlike_checkpoints_have_their_bits(tmp_path: Path) -> None:
    made, seeds = kit.recipe(epochs=3), range(4)
    wanted = kit.alone(made, tmp_path / "alone", seeds)
    # Two lanes stopped after the first epoch, two never began.
    runs = [kit.handle(tmp_path / f"first{s}", s, every=(1, 0)) for s in (0, 1)]
    for run in runs:
        run.stopping = lambda run=run: run._rows == 1
    with pytest.raises(Interrupted):
        kit.train(lanes.train, made, runs)
    again = [kit.handle(tmp_path / f"second{s}", s, previous=(tmp_path / f"first{s}",)) for s in (0, 1)]
    again += [kit.handle(tmp_path / f"second{s}", s) for s in (2, 3)]
    kit.train(lanes.train, made, again)
    assert {run.seed: kit.chain(run) for run in again} == wanted


def test_a_lane_that_diverges_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    bad = 2

    def model(data: Dataset) -> nn.Module:
        made = kit.cnn(data)
        if torch.initial_seed() == stream_seed(bad, "init"):
            with torch.no_grad():
                next(made.parameters()).fill_(float("nan"))
        return made

    made = kit.recipe(model="cnn", epochs=3)
    made = kit.replace(made, model=model)
    wanted = kit.alone(made, tmp_path / "alone", [0, 1, 3, 4])
    runs = [kit.handle(tmp_path / f"lane{seed}", seed) for seed in range(5)]
    results = kit.train(lanes.train, made, runs)
    failure = results.pop(bad)
    assert isinstance(failure, Failure)
    assert failure.kind == "diverged"
    assert not any(isinstance(result, Failure) for result in results.values())
    assert {run.seed: kit.chain(run) for run in runs if run.seed != bad} == wanted


def test_lanes_that_stop_early_have_the_bits_and_the_length_of_their_solo_runs(tmp_path: Path) -> None:
    made = kit.recipe(
        epochs=12, lr=0.02, stop_early=StopEarly(metric="val/accuracy", patience=1), best="val/loss",
        schedule=lambda step, steps: 1.0,
    )  # fmt: skip
    wanted = kit.alone(made, tmp_path / "alone", range(12))
    assert len({links["history"].count("\n") for links in wanted.values()}) > 1
    assert kit.in_lanes(made, tmp_path / "lanes", range(12)) == wanted


def test_lanes_that_share_one_generator_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kit.recipe("mlp")
    wanted = kit.alone(made, tmp_path / "alone", range(3))
    pack = lanes.Pack

    def sharing(group: Any, *rest: Any) -> Any:
        for lane in group:
            lane.generator = group[0].generator
        return pack(group, *rest)

    monkeypatch.setattr(lanes, "Pack", sharing)
    shared = kit.in_lanes(made, tmp_path / "shared", range(3))
    assert [shared[seed]["final"] == wanted[seed]["final"] for seed in range(3)] == [False, False, False]


def test_a_pack_that_does_not_fit_is_halved_and_no_seed_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kit.recipe("cnn")
    wanted = kit.alone(made, tmp_path / "alone", range(12))
    sizes: list[int] = []
    attempt = lanes._pack

    def seen(*args: Any) -> Any:
        sizes.append(len(args[-1]))
        return attempt(*args)

    monkeypatch.setattr(lanes, "_pack", seen)
    # What may be taken is less than what is free, so the size that the probe allows is too large.
    total = torch.cuda.get_device_properties(0).total_memory
    lanes.release()
    held = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((held + (500 << 20)) / total)
    try:
        found = kit.in_lanes(made, tmp_path / "lanes", range(12))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 12
    assert len(sizes) > 1
    assert found == wanted


def _item(outputs: Tensor, targets: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(outputs, targets)
    return loss * 2 if loss.item() > 100 else loss


def _draw(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets) * (1 + torch.rand(()).item() * 0)


def _masked(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs[targets > 0], targets[targets > 0])


def plain_adam(parameters: Any, lr: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003, fused=True)


class Counting(nn.Module):
    """Its scale depends on how often Python called it: a graph would freeze it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = kit.mlp(kit.images()), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += self.training
        out: Tensor = self.inner(inputs) * (1 + self.calls)
        return out


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"loss": _item}, "keep its values on the device"),
        ({"loss": _draw}, "on the CPU"),
        ({"loss": _masked}, "keep its values on the device"),
        ({"optimizer": plain_adam}, "capturable"),
        ({"model": lambda data: Counting()}, "different bits"),
    ],
    ids=["item", "host-draw", "data-dependent-shape", "optimizer", "python-state"],
)
def test_what_cannot_be_captured_is_named_and_trained_alone(tmp_path: Path, parts: dict[str, Any], why: str) -> None:
    made = kit.replace(kit.recipe("mlp"), **parts)
    wanted = kit.alone(made, tmp_path / "alone", range(3))
    runs = [kit.handle(tmp_path / f"lane{seed}", seed) for seed in range(3)]
    kit.train(lanes.train, made, runs)
    assert {run.seed: kit.chain(run) for run in runs} == wanted
    for run in runs:
        assert len(run.notes) == 1
        assert run.notes[0].startswith("trained alone, not in lanes: ")
        assert why in run.notes[0]
    # Nothing of the failed capture is left: the next pack is one.
    kit.in_lanes(kit.recipe("mlp"), tmp_path / "after", range(3))


def test_fast_mode_trains_in_lanes(tmp_path: Path) -> None:
    runs = [kit.handle(tmp_path / f"lane{seed}", seed, deterministic=False) for seed in range(3)]
    results = kit.train(lanes.train, kit.recipe("cnn"), runs)
    assert not any(isinstance(result, Failure) for result in results.values())
    assert not any(run.notes for run in runs)


def test_augmentation_and_tf32_run_in_lanes(tmp_path: Path) -> None:
    made = kit.recipe(augment=build(Augment(shift=2, flip=True), torch.zeros(1, 1, 1)), precision="tf32")
    assert kit.in_lanes(made, tmp_path / "lanes", range(3)) == kit.alone(made, tmp_path / "alone", range(3))


@pytest.mark.parametrize("together", [True, False], ids=["one-graph", "many-graphs"])
@pytest.mark.parametrize("workers", [None, 0, 2], ids=["too-large", "loader", "workers"])
def test_batches_that_the_host_brings_have_the_bits_of_those_gathered_on_the_device(
    tmp_path: Path, workers: int | None, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kit.recipe(augment=build(Augment(shift=2, flip=True), torch.zeros(1, 1, 1)))
    wanted = kit.alone(made, tmp_path / "alone", range(5))
    brought = kit.replace(made, loader_workers=workers)
    if workers is None:
        monkeypatch.setattr(data, "ROOM", 0.0)
    loads: list[int] = []
    load = Belt.load

    def seen(self: Belt) -> Any:
        loads.append(1)
        return load(self)

    monkeypatch.setattr(Belt, "load", seen)
    assert kit.alone(brought, tmp_path / "fed", range(2)) == {seed: wanted[seed] for seed in range(2)}
    assert not loads
    assert kit.in_lanes(brought, tmp_path / "lanes", range(5), together) == wanted
    assert len(loads) == 2 * 6  # steps of two epochs
    # More steps than are under way at once, and the trial of both kinds of graphs.
    small = kit.replace(made, batch_size=2)
    wanted = kit.alone(small, tmp_path / "small", range(3))
    assert kit.in_lanes(kit.replace(small, loader_workers=workers), tmp_path / "trial", range(3)) == wanted


def test_an_interrupted_pack_whose_batches_the_host_brings_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    made, seeds = kit.recipe(batch_size=4, epochs=2, loader_workers=0), range(3)
    wanted = kit.alone(made, tmp_path / "alone", seeds)
    looks = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > 6

    runs = [kit.handle(tmp_path / f"first{s}", s, stopping=stopping, every=(0, 0)) for s in seeds]
    with pytest.raises(Interrupted):
        kit.train(lanes.train, made, runs)
    again = [kit.handle(tmp_path / f"second{s}", s, previous=(tmp_path / f"first{s}",)) for s in seeds]
    kit.train(lanes.train, made, again)
    assert all("resumed from step" in note for run in again for note in run.notes)
    assert {run.seed: kit.chain(run) for run in again} == wanted
