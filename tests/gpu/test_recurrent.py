"""The dropout that cuDNN draws between recurrent layers: no seed reaches it, so each run has its own process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sweep import digest, seeding
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


def _outputs() -> str:
    """One training step's output of a two-layer LSTM with dropout, seeded as every run is."""
    seeding.seed_everything(1, deterministic=True)
    model = nn.LSTM(4, 8, num_layers=2, dropout=0.5).cuda()
    out, _ = model(torch.ones(5, 3, 4, device="cuda"))
    return digest.tensors({"out": out.detach()})


def test_no_seed_reaches_it() -> None:
    """Why the process has to end: seeded alike, the second run in it is another."""
    with seeding.restored():
        assert _outputs() != _outputs()


@pytest.mark.parametrize(("layers", "dropout", "found"), [(2, 0.5, True), (2, 0.0, False), (1, 0.0, False)])
def test_only_a_layer_that_draws_is_found(tmp_path: Path, layers: int, dropout: float, found: bool) -> None:
    import gc

    gc.collect()
    kept = nn.LSTM(4, 8, num_layers=layers, dropout=dropout).cuda()
    run = _run(tmp_path)
    run.checkpoint({"w": kept.weight_hh_l0.detach().cpu()}, step=1)
    assert run.unseedable is found
    assert bool(run.notes) is found
    assert bool(list(run.attempt.checkpoints())) is not found
