"""Serving on a GPU: replayed graphs say what the eager code says, on the weights of the moment."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from sweep.ensemble.serve import About, Ensemble  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def served(seed: int) -> Ensemble:
    torch.manual_seed(seed)
    modules = [nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)) for _ in range(3)]
    return Ensemble(modules, About(input_shape=(1, 4, 4), mean=(0.5,), std=(2.0,), temperature=1.3))


def test_a_replayed_batch_equals_the_eager_one_and_the_cpu():
    ensemble = served(0)
    batches = torch.randn(5, 6, 1, 4, 4)
    expected = [ensemble(one) for one in batches]
    ensemble.to("cuda")
    found = [ensemble(one.cuda()) for one in batches]
    assert ensemble._graphs._captured
    assert not ensemble._graphs.refusal
    for mine, its in zip(found, expected, strict=True):
        for a, b in zip(mine, its, strict=True):
            assert a.cpu().numpy() == pytest.approx(b.numpy(), abs=1e-5)
    assert not torch.equal(found[2].mean, found[3].mean)


def test_new_weights_are_seen_by_a_captured_graph():
    ensemble, other = served(0).to("cuda"), served(1).to("cuda")
    x = torch.randn(6, 1, 4, 4, device="cuda")
    for _ in range(3):
        before = ensemble(x).mean
    ensemble.load_state_dict(other.state_dict())
    assert torch.equal(ensemble(x).mean, other(x).mean)
    assert not torch.equal(ensemble(x).mean, before)


def test_gradients_of_the_inputs_are_still_to_be_had():
    ensemble = served(0).to("cuda")
    x = torch.randn(6, 1, 4, 4, device="cuda", requires_grad=True)
    for _ in range(3):
        ensemble(x).epistemic.sum().backward()
    assert x.grad.abs().sum() > 0


def test_inference_mode_and_plain_calls_share_a_graph():
    ensemble = served(0).to("cuda")
    x = torch.randn(6, 1, 4, 4, device="cuda")
    with torch.inference_mode():
        inside = [ensemble(x).mean for _ in range(3)]
    assert torch.equal(ensemble(x).mean, inside[-1])
    with torch.inference_mode():
        assert torch.equal(ensemble(x.clone()).mean, inside[0])


def test_a_model_that_cannot_be_captured_runs_eagerly():
    class Stubborn(nn.Linear):
        def forward(self, inputs):
            out = super().forward(inputs)
            return out if bool((out.sum() > -1e9).item()) else -out

    ensemble = Ensemble([Stubborn(4, 3) for _ in range(2)]).to("cuda")
    x = torch.randn(5, 4, device="cuda")
    found = [ensemble(x).mean for _ in range(3)]
    assert ensemble._graphs.refusal
    assert torch.equal(found[0], found[2])
