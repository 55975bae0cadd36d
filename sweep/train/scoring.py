"""What a model's outputs are worth: running sums on the device for validation, exact scores at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log, pi, sqrt
from typing import Literal

import torch
from torch import Tensor

from sweep.train.data import Dataset

ECE_BINS = 15


@dataclass(frozen=True)
class Scoring:
    """How outputs are judged; every callable gets outputs (examples, outputs) and targets (examples,).

    tally: -> (k,) sums over the examples, computed where the outputs are, without reading them back.
    read: sums of all validation examples and their number -> metrics by name, without `val/`.
    fit: what a judgement needs to know from val (a residual variance, say), as plain values.
    score: on the CPU, with what `fit` found -> metrics by name, and what `save_predictions` takes.
    """

    tally: Callable[[Tensor, Tensor], Tensor]
    read: Callable[[Sequence[float], int], Mapping[str, float]]
    fit: Callable[[Tensor, Tensor], Mapping[str, float]]
    score: Callable[[Tensor, Tensor, Mapping[str, float]], tuple[dict[str, float], dict[str, Tensor]]]


def classification() -> Scoring:
    """Accuracy while training; accuracy, NLL, Brier score and ECE at the end."""
    return Scoring(
        tally=lambda outputs, targets: (outputs.argmax(1) == targets).sum(dtype=torch.float64).view(1),
        read=lambda sums, n: {"accuracy": sums[0] / n},
        fit=lambda outputs, targets: {},
        score=_score_classes,
    )


def _score_classes(
    outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    logs = outputs.double().log_softmax(1)
    probs = logs.exp()
    hits = probs.argmax(1) == targets
    onehot = torch.nn.functional.one_hot(targets, probs.shape[1])
    metrics = {
        "accuracy": float(hits.double().mean()),
        "nll": float(-logs.gather(1, targets[:, None]).mean()),
        # Brier (1950), eq. 2: summed over the classes, so between 0 and 2.
        "brier": float((probs - onehot).square().sum(1).mean()),
        "ece": ece(probs, hits),
    }
    return metrics, {"probs": probs.float(), "targets": targets}


def ece(probs: Tensor, hits: Tensor, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the top label, equal-width bins (Guo et al., 2017, eq. 3).

    probs (examples, classes); hits (examples,) whether the top label is right; bins are open on the left.
    """
    top = probs.max(1).values
    index = (top * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, hits.double() - top.double())
    return float(gap.abs().sum() / len(top))


def regression(data: Dataset, variance: Literal["residual", "predicted"]) -> Scoring:
    """RMSE while training; RMSE, MAE, R2 and the Gaussian NLL at the end, in the targets' own units."""
    mean, std = data.target_mean, data.target_std

    def fit(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        if variance == "predicted":
            return {}
        return {"residual_variance": float((outputs[:, 0] - targets).double().square().mean()) * std**2}

    def score(
        outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        truth, guess = targets.double() * std + mean, outputs[:, 0].double() * std + mean
        var = (
            outputs[:, 1].double().exp() * std**2
            if variance == "predicted"
            else torch.full_like(guess, fitted["residual_variance"])
        )
        error = (guess - truth).square()
        metrics = {
            "rmse": sqrt(float(error.mean())),
            "mae": float((guess - truth).abs().mean()),
            "r2": 1 - float(error.sum() / (truth - truth.mean()).square().sum()),
            # The Gaussian density's, with its constant: comparable between models of any variance.
            "nll": float((error / var + var.log()).mean() + log(2 * pi)) / 2,
        }
        return metrics, {"mean": guess, "var": var, "targets": truth}

    return Scoring(
        tally=lambda outputs, targets: (outputs[:, 0] - targets).double().square().sum().view(1),
        read=lambda sums, n: {"rmse": sqrt(sums[0] / n) * std},
        fit=fit,
        score=score,
    )
