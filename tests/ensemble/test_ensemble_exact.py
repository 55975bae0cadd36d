"""What cannot be stacked exactly is served member by member, and gives what each member gives on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sweep
from sweep.ensemble.load import Rows, load_ensemble
from sweep.ensemble.predict import predict
from sweep.ensemble.program import export
from sweep.ensemble.serve import Ensemble
from sweep.errors import EnsembleError, SweepError

pytestmark = pytest.mark.usefixtures("unforked")


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


class Loose(nn.Module):
    """A tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(4, 3), torch.randn(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


class Set(nn.Linear):
    """Behaves by a plain attribute."""

    power = 1

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** self.power


class Noted(nn.Linear):
    """Keeps state that is in no parameter."""

    def get_extra_state(self) -> Tensor:
        return torch.tensor(getattr(self, "factor", 1.0))

    def set_extra_state(self, state: Tensor) -> None:
        self.factor = float(state)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * getattr(self, "factor", 1.0)


class Beside(nn.Module):
    """A buffer that is not in the state dict."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.register_buffer("shift", torch.randn(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.shift


class Tokens(nn.Module):
    """Takes token ids and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(10, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.table(ids).mean(1))


class Mapped(nn.Linear):
    """Answers as the models of Transformers do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"loss": x.sum(), "logits": super().forward(x)}


class Unnamed(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


def members(kind: Any, *, count: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    made = [kind() for _ in range(count)]
    for power, one in enumerate(made, 1):
        if isinstance(one, Set):
            one.power = power
        if isinstance(one, Noted):
            one.factor = float(power)
    return made


def linear(kind: Any) -> Any:
    return lambda: kind(4, 3)


FLOATS, IDS = torch.randn(5, 4), torch.randint(0, 10, (5, 4))


@pytest.mark.parametrize(
    ("kind", "inputs", "form"),
    [
        (Tied, FLOATS, "loop"),
        (Loose, FLOATS, "loop"),
        (linear(Set), FLOATS, "loop"),
        (linear(Noted), FLOATS, "loop"),
        (lambda: nn.Linear(4, 3).to(torch.bfloat16), FLOATS, "loop"),
        (lambda: nn.Linear(4, 3).double(), FLOATS, "stacked"),
        (Beside, FLOATS, "stacked"),
        (Tokens, IDS, "stacked"),
        (linear(Mapped), FLOATS, "stacked"),
        (linear(nn.Linear), FLOATS, "stacked"),
        (linear(nn.Linear), IDS, "stacked"),  # integers that the members take as floats
    ],
)
def test_what_is_served_is_what_each_member_gives_on_its_own(kind: Any, inputs: Tensor, form: str) -> None:
    modules = members(kind)
    ensemble = Ensemble(modules)
    weights = next(modules[0].parameters()).dtype
    own = inputs if inputs.is_floating_point() or kind is Tokens else inputs.float()
    with torch.no_grad():
        outs = [one.eval()(own.to(weights) if own.is_floating_point() else own) for one in modules]
        expected = torch.stack([out["logits"] if isinstance(out, dict) else out for out in outs])
        found = ensemble.outputs(inputs)
    assert ensemble.form == form, ensemble.refusal
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    # Once more, after a move and as modules of their own.
    again = Ensemble(ensemble.members()).to("cpu")
    torch.testing.assert_close(again.outputs(inputs), expected, rtol=1e-6, atol=1e-6)
    probs = predict(ensemble, inputs.numpy())["mean"]
    assert probs == pytest.approx(expected.double().softmax(-1).mean(0).numpy(), abs=1e-5)


def test_an_output_that_is_no_single_tensor_is_refused_by_name() -> None:
    with pytest.raises(EnsembleError, match="tuple with 2 tensors"):
        Ensemble(members(linear(Unnamed))).outputs(FLOATS)


@pytest.mark.parametrize(("kind", "rows"), [(Tied, FLOATS), (Tokens, IDS), (linear(Mapped), FLOATS)])
def test_a_loop_is_exported_as_what_it_serves(kind: Any, rows: Tensor, tmp_path: Path) -> None:
    # `export` itself keeps the file only if it repeats the module.
    assert export(Ensemble(members(kind)), tmp_path / "e.pt2", rows).exists()


def tied_classes(run: Any) -> dict[str, float]:
    """Trains nothing: keeps a model with shared weights, and what it says of twelve examples."""
    torch.manual_seed(run.seed)
    module, x = Tied(), np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    run.save_model(module)
    with torch.no_grad():
        probs = module(torch.from_numpy(x)).softmax(-1)
    run.save_predictions("test", ids=np.arange(12), targets=np.arange(12) % 4, probs=probs)
    return {"test/accuracy": 0.5}


def test_shared_weights_survive_a_run_directory(tmp_path: Path) -> None:
    sweep.run(tied_classes, seeds=[1, 2], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    rows = Rows(np.arange(12), x)
    found = [
        load_ensemble(tmp_path / "d", build=lambda params: Tied(), rows=rows)(torch.from_numpy(x)).mean
        for _ in range(2)
    ]
    assert torch.equal(*found)
    with pytest.warns(UserWarning, match="not checked"):
        unchecked = load_ensemble(tmp_path / "d", build=lambda params: Tied())
    # What was not checked is said wherever the ensemble goes.
    assert any("not checked" in note and "seed1" in note for note in unchecked.about.notes)


class Wordy(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def wordy(run: Any) -> dict[str, float]:
    run.save_model(Wordy(2, 2))
    return {"test/accuracy": 0.5}


def test_state_that_is_no_tensor_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    found = sweep.run(wordy, seeds=[1], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    (failure,) = [one.record.failure for one in found.store.scan() if one.record is not None]
    assert failure is not None
    assert "_extra_state" in failure.message
    assert SweepError.__name__ not in failure.message


def kept_by_some(run: Any) -> dict[str, float]:
    if run.seed != 2:
        run.save_model(nn.Linear(2, 2))
    return {"test/accuracy": 0.5}


def test_a_finished_run_without_a_model_is_missing_with_its_reason(tmp_path: Path) -> None:
    sweep.run(kept_by_some, seeds=[10, 2, 1], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    with pytest.raises(EnsembleError, match=r"no stored models of seed2 \(saved no model\.safetensors\)"):
        load_ensemble(tmp_path / "d", build=lambda params: nn.Linear(2, 2))
    with pytest.warns(UserWarning, match="not checked"):
        served = load_ensemble(tmp_path / "d", build=lambda params: nn.Linear(2, 2), allow_missing=True)
    assert served.about.labels == ("seed1", "seed10")
    assert any("built without seed2 (saved no model.safetensors)" in note for note in served.about.notes)


def outside_classes(run: Any, *, kind: str = "Beside") -> dict[str, float]:
    """Trains nothing: keeps a model whose output depends on a tensor that no state dict holds."""
    torch.manual_seed(run.seed)
    run.save_model(globals()[kind]())
    return {"test/accuracy": 0.5}


@pytest.mark.parametrize(("kind", "name"), [(Beside, "shift"), (Loose, "scale")])
def test_a_tensor_outside_the_state_dict_is_that_of_training_or_refused_by_name(
    kind: Any, name: str, tmp_path: Path
) -> None:
    config = {"train": f"{__name__}:outside_classes", "params": {"kind": kind.__name__}, "seeds": [1, 2]}
    sweep.run(config, out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    with pytest.raises(EnsembleError, match=f"{name} of seed1") as caught:
        load_ensemble(tmp_path / "d", build=lambda params: kind())
    assert "build=" in str(caught.value)
    seeds = iter((1, 2))

    def as_trained(params: Any) -> nn.Module:
        torch.manual_seed(next(seeds))
        module: nn.Module = kind()
        return module

    with pytest.warns(UserWarning, match="not checked"):
        found = load_ensemble(tmp_path / "d", build=as_trained).outputs(FLOATS)
    seeds = iter((1, 2))
    torch.testing.assert_close(found, torch.stack([as_trained({})(FLOATS).detach() for _ in range(2)]))
