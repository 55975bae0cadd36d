"""The dropout that cuDNN draws between recurrent layers: a seed reaches it, a checkpoint does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sweep.determinism import digest, seeding
from sweep.handle import Run
from sweep.plan import STREAMS, RunSpec, Target, stream_seed
from sweep.store import Attempt
from sweep.store.owner import this_process


def _spec(seed: int) -> RunSpec:
    return RunSpec(
        Target("function", "tests:none"), {}, "", "", seed, {name: stream_seed(seed, name) for name in STREAMS},
        0, True, "cuda", 1, "",
    )  # fmt: skip


def _run(folder: Path) -> Run:
    return Run(_spec(1), Attempt(folder, "id", this_process(), 1))


def test_a_seed_reaches_it_and_a_saved_state_does_not() -> None:
    """Why such a run needs no process of its own, but starts from zero when it was interrupted."""
    torch.manual_seed(0)
    model = nn.LSTM(4, 8, num_layers=2, dropout=0.5).cuda()
    inputs = torch.ones(5, 3, 4, device="cuda")

    def outputs(seed: int | None = None) -> str:
        if seed is not None:
            seeding.seed_everything(seed, deterministic=True)
        return digest.tensors({"out": model(inputs)[0].detach()})

    with seeding.restored():
        first, following, other = outputs(1), outputs(), outputs(2)
        assert len({first, following, other}) == 3
        assert (outputs(1), outputs()) == (first, following)
        outputs(1)
        state = seeding.get_rng_state()
        assert outputs() == following
        outputs(5)
        seeding.set_rng_state(state)
        assert outputs() != following


@pytest.mark.parametrize(("layers", "dropout", "found"), [(2, 0.5, True), (2, 0.0, False), (1, 0.0, False)])
def test_only_a_layer_that_draws_is_found(tmp_path: Path, layers: int, dropout: float, found: bool) -> None:
    import gc

    gc.collect()
    kept = nn.LSTM(4, 8, num_layers=layers, dropout=dropout).cuda()
    run = _run(tmp_path)
    run.checkpoint({"w": kept.weight_hh_l0.detach().cpu()}, step=1)
    assert run.unsaveable is found
    assert bool(run.notes) is found
    assert bool(list(run.attempt.checkpoints())) is not found
