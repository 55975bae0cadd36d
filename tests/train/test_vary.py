"""Named streams: one varies while the others are held, and none depends on what has nothing to do with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training import SMALL, handle, recipe_of

from sweep.config import from_dict
from sweep.errors import ConfigError
from sweep.plan import STREAMS, Cell, Plan, Target, stream_seed
from sweep.train.data import load
from sweep.train.params import Data


def plan_of(*vary: str) -> Plan:
    cell = Cell(variant="", task="", params={})
    return Plan(from_dict({"seeds": [1, 2], "deterministic": True, "vary": [*vary]}), Target("recipe"), (cell,), "cpu")


@pytest.mark.parametrize("vary", STREAMS)
def test_one_stream_varies_and_the_others_are_held(vary: str) -> None:
    one, two = plan_of(vary)
    assert {name for name in STREAMS if one.streams[name] != two.streams[name]} == {vary}
    assert all(one.streams[name] == stream_seed(42, name) for name in STREAMS if name != vary)


def test_the_split_is_a_stream_only_where_it_varies() -> None:
    assert all(set(spec.streams) == set(STREAMS) for spec in (*plan_of(), *plan_of("order")))
    one, two = plan_of("split")
    assert one.streams["split"] != two.streams["split"]
    assert one.streams["init"] == two.streams["init"]


def test_a_split_of_its_own(tmp_path: Path) -> None:
    recipe = recipe_of({"epochs": 1})
    assert recipe.resplit is not None
    fixed, one, again, two = recipe.data(), *(recipe.resplit(seed).data() for seed in (1, 1, 2))
    for name in ("train", "val", "test"):
        assert getattr(one, name).ids.equal(getattr(again, name).ids)
        assert not getattr(one, name).ids.equal(getattr(two, name).ids)
        assert not getattr(one, name).ids.equal(getattr(fixed, name).ids)
    everything = [set(part.ids.tolist()) for part in (one.train, one.val, one.test)]
    assert len(set().union(*everything)) == sum(map(len, everything))  # no example stands in two of them


def test_classes_keep_their_shares_in_every_split() -> None:
    data = load(Data(), "classification", 7)
    shares = np.bincount(data.test.targets.numpy()) / np.bincount(data.train.targets.numpy())
    assert shares.max() / shares.min() < 1.1


def test_what_the_data_set_sets_apart_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 3)), rng.integers(0, 2, 90)
    np.savez(tmp_path / "own.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    fixed, drawn = (load(Data(name="npz", path=str(tmp_path / "own.npz")), "classification", s) for s in (None, 3))
    assert drawn.test.ids.equal(fixed.test.ids)
    assert not drawn.val.ids.equal(fixed.val.ids)


def test_sweep_run_vary_order(tmp_path: Path) -> None:
    import sweep

    found = sweep.run(
        {"params": {**SMALL, "epochs": 1}, "vary": ["order"], "seeds": [1, 2]}, out=tmp_path / "out", engine="inline"
    )
    one, two = (member.record for member in found.store.scan())
    assert one is not None
    assert two is not None
    assert one.digests["initial"] == two.digests["initial"]
    assert one.digests["first_batch"] != two.digests["first_batch"]
    assert "over seeds that vary order only, this split and test set" in found.report.headline
    with pytest.raises(ConfigError):
        sweep.run({"vary": ["colour"]}, out=tmp_path / "no", engine="inline")
    assert handle(tmp_path / "handle").streams["order"]
