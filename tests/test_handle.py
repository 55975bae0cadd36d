"""Run: what training code is handed, and what it may hand back."""

from __future__ import annotations

import enum
import json
import math
import re
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from training import handle

from sweep.determinism import seeding
from sweep.errors import SweepError
from sweep.handle import Run, as_metrics, stop_seen
from sweep.job import Interrupted
from sweep.plan import Target
from sweep.store import history


@pytest.fixture
def run(tmp_path: Path) -> Any:
    made = handle(tmp_path / "attempt-a", seed=7)
    yield made
    made.attempt.close()


def rows(run: Run) -> list[dict[str, Any]]:
    return history.read(run.dir / "history.jsonl")


@pytest.mark.parametrize(
    "value",
    [0.5, 1, np.float32(0.5), np.int64(3), np.array(0.5), torch.tensor(0.5, requires_grad=True), Decimal("0.5"),
     math.nan, math.inf],
    ids=repr,
)  # fmt: skip
def test_numbers_of_any_kind_are_metrics(value: Any) -> None:
    found = as_metrics({"test/a": value}, where="here")["test/a"]
    assert type(found) is float
    assert repr(found) in ("0.5", "1.0", "3.0", "nan", "inf")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (None, r"None \(NoneType\), not a dict"),
        (0.93, r"0.93 \(float\), not a dict"),
        ({"a": "0.93"}, r"metric 'a' is '0.93' \(str\), not a number"),
        ({"a": True}, r"metric 'a' is True \(bool\)"),
        ({"a": None}, r"metric 'a' is None \(NoneType\)"),
        ({"a": 1j}, r"metric 'a' is 1j \(complex\)"),
        ({"a": [1.0]}, r"metric 'a' is \[1.0\] \(list\)"),
        ({"a": np.ones(3)}, r"metric 'a' is array.* \(ndarray\)"),
        ({"a": torch.ones(3)}, r"metric 'a' is tensor.* \(Tensor\)"),
        ({"": 1.0}, "an invalid metric name"),
        ({3: 1.0}, "an invalid metric name"),
        ({"a\n": 1.0}, "an invalid metric name"),
        ({"a" * 201: 1.0}, "an invalid metric name"),
    ],
    ids=repr,
)
def test_what_is_no_metric_is_described(given: Any, what: str) -> None:
    with pytest.raises(SweepError, match=what):
        as_metrics(given, where="here")


def test_logged_rows_are_in_the_history_in_order(run: Run) -> None:
    run.log({"train/loss": torch.tensor(2.0), "lr": 0.1}, step=1)
    run.log({"train/loss": 1.0}, step=np.int64(2))
    assert rows(run) == [{"step": 1, "train/loss": 2.0, "lr": 0.1}, {"step": 2, "train/loss": 1.0}]
    assert run.last == {"train/loss": 1.0, "lr": 0.1}


def test_a_metric_cannot_take_the_place_of_the_step(run: Run) -> None:
    with pytest.raises(SweepError, match="'step' is an invalid metric name"):
        run.log({"step": 3.0}, step=1)


@pytest.mark.parametrize("split", ["", "../test", "a/b", "te st", "x" * 61, "."])
def test_a_split_name_is_an_identifier(run: Run, split: str) -> None:
    with pytest.raises(SweepError, match="invalid name"):
        run.save_predictions(split, ids=[1], targets=[0], probs=[[1.0]])


def test_predictions_are_kept_and_digested(run: Run) -> None:
    run.save_predictions("test", ids=[1, 2], targets=[0, 1], probs=torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    first = run.chain["predictions/test"]
    run.save_predictions("test", ids=[1, 2], targets=[0, 1], probs=torch.tensor([[0.5, 0.5], [0.75, 0.25]]))
    assert run.chain["predictions/test"] != first
    assert set(run.attempt.artifacts()) == {"predictions-test.npz"}


def test_a_model_is_kept_with_shared_and_transposed_weights_and_what_serves_it(run: Run) -> None:
    from safetensors.torch import load_file

    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight  # type: ignore[assignment]
    run.save_model(model, meta={"classes": ["a", "b"], "mean": math.nan})
    found = load_file(run.dir / "model.safetensors")
    assert torch.equal(found["1.weight"], model[0].weight)  # type: ignore[arg-type]
    assert json.loads((run.dir / "model.json").read_text()) == {"classes": ["a", "b"], "mean": "nan"}
    assert len(run.chain["final"]) == 64


def test_a_stop_is_seen_at_log_by_code_that_keeps_no_checkpoints(run: Run) -> None:
    run.stopping = lambda: True
    with pytest.raises(Interrupted):
        run.log({"a": 1.0}, step=1)
    assert len(rows(run)) == 1


def test_a_stop_waits_for_the_checkpoint_of_code_that_keeps_them(run: Run) -> None:
    assert run.restore() is None
    run.stopping = lambda: True
    run.log({"a": 1.0}, step=1)
    assert run.checkpoint_due(epoch_end=False)
    with pytest.raises(Interrupted):
        run.checkpoint({"x": torch.ones(2)}, step=1)
    assert len(list(run.dir.glob("checkpoint-*.pt"))) == 1


def test_checkpoints_are_due_by_epochs_or_by_time(tmp_path: Path) -> None:
    by_epochs = handle(tmp_path / "a", every=(2, 0))
    assert [by_epochs.checkpoint_due(epoch_end=end) for end in (False, True, False, True)] == [
        False,
        False,
        False,
        True,
    ]
    by_epochs.checkpoint({}, step=2)
    assert not by_epochs.checkpoint_due(epoch_end=True)
    by_time = handle(tmp_path / "b", every=(0, 1e-9))
    assert by_time.checkpoint_due(epoch_end=False)
    never = handle(tmp_path / "c", every=(0, 0))
    assert not never.checkpoint_due(epoch_end=True)


def test_a_later_attempt_goes_on_with_the_state_the_random_streams_and_the_history(tmp_path: Path) -> None:
    first = handle(tmp_path / "attempt-a")
    first.log({"loss": 1.0}, step=1)
    first.digest("epoch/1", "aa")
    first.checkpoint({"weights": torch.arange(3.0), "epoch": 1}, step=1)
    drawn = torch.rand(3)
    first.log({"loss": 0.5}, step=2)
    first.attempt.close()

    second = handle(tmp_path / "attempt-b", previous=(first.dir,))
    state = second.restore()
    assert state is not None
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert torch.equal(torch.rand(3), drawn)
    assert second.chain == {"epoch/1": "aa"}
    assert second.last == {"loss": 1.0}
    assert rows(second) == [{"step": 1, "loss": 1.0}]
    assert any("resumed from step 1" in note for note in second.notes)


def test_a_torn_checkpoint_is_passed_over_aloud(tmp_path: Path) -> None:
    first = handle(tmp_path / "attempt-a")
    first.checkpoint({"epoch": 1}, step=1)
    first.checkpoint({"epoch": 2}, step=2)
    newest = first.dir / "checkpoint-000000002.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    second = handle(tmp_path / "attempt-b", previous=(first.dir,))
    state = second.restore()
    assert state is not None
    assert state["epoch"] == 1
    assert any("was skipped" in note for note in second.notes)


def test_a_checkpoint_that_holds_code_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    first = handle(tmp_path / "attempt-a")
    stream = BytesIO()
    torch.save({"state": Bomb()}, stream)
    first.attempt.write_checkpoint(1, stream.getvalue(), rows=0)
    second = handle(tmp_path / "attempt-b", previous=(first.dir,))
    assert second.restore() is None
    assert not (tmp_path / "ran").exists()
    assert any("cannot be restored" in note for note in second.notes)


class Colour(enum.Enum):
    RED = 1


@dataclass
class Best:
    loss: float = 0.5


TAKEN = [
    np.float64(1.5), np.float32("nan"), np.int64(3), np.bool_(True), np.datetime64("2020-01-01"), np.array(3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(5000), np.arange(3, dtype=">i4"), np.array(["a", "bc"]),
    Path("/data/x"), PureWindowsPath("a\\b"), deque([1, np.float64(2)], maxlen=3), Namespace(lr=np.float32(0.1)),
    defaultdict(list, a=[np.float32(3)]), range(3), {1, 2}, Counter("aab"), OrderedDict(a=1), torch.Size([2]),
]  # fmt: skip


@pytest.mark.parametrize("value", TAKEN, ids=lambda value: type(value).__name__)
def test_what_a_checkpoint_takes_comes_back_as_the_kind_it_was(tmp_path: Path, value: Any) -> None:
    first = handle(tmp_path / "attempt-a")
    first.checkpoint({"best": [value]}, step=1)
    state = handle(tmp_path / "attempt-b", previous=(first.dir,)).restore()
    assert state is not None
    found = state["best"][0]
    assert type(found) is type(value)
    assert repr(found) == repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        assert (found.dtype, found.tobytes("A")) == (value.dtype, value.tobytes("A"))


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Best(), len, np.array([None]), defaultdict(lambda: 3), frozenset([1]), np.random.default_rng(0)],
    ids=lambda value: type(value).__name__,
)
def test_what_no_checkpoint_could_give_back_is_refused_by_its_place_at_the_first(run: Run, value: Any) -> None:
    run = replace(run, spec=replace(run.spec, target=Target("function", "m:train")))
    with pytest.raises(SweepError, match=re.escape("state['optimizer']['groups'][1] is ")) as caught:
        run.checkpoint({"epoch": 1, "optimizer": {"groups": [0, value]}}, step=1)
    assert "seed 7" in str(caught.value)
    assert not list(run.dir.glob("checkpoint-*"))


def test_once_there_is_a_checkpoint_another_that_could_not_be_restored_costs_no_run(run: Run) -> None:
    run.checkpoint({"epoch": 1}, step=1)
    run.checkpoint({"epoch": 2, "best": Best()}, step=2)
    assert "no checkpoint was saved at step 2" in run.notes[0]
    assert "state['best'] is Best" in run.notes[0]
    assert [path.name for path, _ in run.attempt.checkpoints()] == ["checkpoint-000000001.pt"]


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.store import atomic

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_write", full)
    run.checkpoint({"epoch": 1}, step=1)
    assert any("No space left" in note for note in run.notes)


def test_a_run_that_cannot_be_restored_keeps_no_checkpoint_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU cuDNN may hold a random stream (tests/gpu/test_recurrent.py); here only what follows from it."""
    monkeypatch.setattr("sweep.determinism.seeding.unsaveable", lambda: True)
    run.spec = replace(run.spec, device="cuda", target=replace(run.spec.target, kind="function"))
    run.checkpoint({"w": torch.ones(2)}, step=1)
    run.checkpoint({"w": torch.ones(2)}, step=2)
    assert list(run.attempt.checkpoints()) == []
    assert [note for note in run.notes if "starts from zero" in note] == run.notes
    run.stopping = lambda: True
    with pytest.raises(Interrupted):
        run.checkpoint({"w": torch.ones(2)}, step=3)


def test_no_layer_on_a_cpu_has_a_stream_of_its_own() -> None:
    kept = torch.nn.LSTM(4, 8, num_layers=2, dropout=0.5)
    assert kept.dropout
    assert not seeding.unsaveable()


def test_a_stop_once_seen_stays_seen_and_is_looked_for_now_and_then(tmp_path: Path) -> None:
    stop = stop_seen(tmp_path / "stop", every=0.0)
    assert not stop()
    (tmp_path / "stop").touch()
    assert stop()
    (tmp_path / "stop").unlink()
    assert stop()
    rarely = stop_seen(tmp_path / "stop", every=60.0)
    assert not rarely()
    (tmp_path / "stop").touch()
    assert not rarely()
