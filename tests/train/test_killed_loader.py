"""Killed at every step, with a DataLoader's worker processes: the bits of the run that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_resume import EVERY_STEP, FULL, STEPS, Killed, dies_at, resumed, same
from training import finish, handle, recipe_of, trained


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_every_step_with_a_loader(tmp_path: Path, workers: int) -> None:
    whole = trained(tmp_path / "whole", FULL)
    recipe = recipe_of({**FULL, "loader_workers": workers})
    for step in range(STEPS):  # 0 is the first batch of all, 4 the last of its epoch, 5 the first of the next
        dead = handle(tmp_path / f"dead{step}", interval=EVERY_STEP)
        with pytest.raises(Killed):
            finish(dies_at(recipe, step), dead)
        run = resumed(tmp_path / f"again{step}", recipe, dead)
        assert any(f"resumed from step {step} " in note for note in run.notes) == (step > 0)
        same(run, whole)
