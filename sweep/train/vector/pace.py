"""Pace: the time of a vectorised step, measured for `verify --cost`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from sweep.errors import SweepError
from sweep.handle import Run
from sweep.train.cuda_graphs import LOOK
from sweep.train.lane import epoch_rates, fresh, set_up
from sweep.train.precision import flags
from sweep.train.recipe import Recipe
from sweep.train.vector.check import check, other
from sweep.train.vector.pack import Pack
from sweep.train.vector.stack import Stack


def pace(recipe: Recipe, run: Run, width: int, *, seconds: float) -> float:
    """Return the seconds of a step of this width, measured with temporary lanes on the data of the recipe.

    Raises: SweepError for a recipe that cannot be vectorised or whose batches come from the host.
    """
    setup = set_up(recipe, run, compiled=False)
    if setup.feed is not None:
        raise SweepError(
            "vectorised steps need their data on the device, but a loader brings these batches from the host",
            where="vectorize",
        )
    with flags(recipe.precision):
        check(setup, replace(run, spec=replace(run.spec, vectorize=width)))
        lanes = [fresh(setup, other(run, row)) for row in range(width)]
        with ThreadPoolExecutor(1) as threads:
            pack = Pack(Stack(lanes, width), threads)
            plan, size = pack.stack.plan, min(recipe.batch_size, len(setup.data.train))
            plan.begin(lanes[0], pack._orders(), epoch_rates(lanes[0]))
        whole = max(1, plan.whole)

        def steps(least: int, seconds: float) -> tuple[int, float]:
            """Repeat the steps of an epoch. Return their number, and the seconds until the last is done."""
            done, begun = 0, time.perf_counter()
            while done < least or time.perf_counter() - begun < seconds:
                if done % whole == 0:
                    plan.position.zero_()
                done += pack._act(done % whole, size, recipe.lr, iter(()))
            if run.device == "cuda":
                torch.cuda.synchronize()
            return done, time.perf_counter() - begun

        steps(3 * LOOK if run.device == "cuda" else 1, 0.0)  # then all is compiled, captured and allocated
        done, taken = steps(1, seconds)
        return taken / done
