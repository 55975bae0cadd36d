"""Scores of a model's outputs: running sums on the device for validation, exact scores at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log, pi, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from sweep.train.data import Dataset
from sweep.train.splits import IGNORED

ECE_BINS = 15
Scores = tuple[dict[str, float], dict[str, Tensor]]  # metrics by name, and what `save_predictions` takes


@dataclass(frozen=True)
class Scoring:
    """The scoring of outputs. Every callable gets outputs (examples, outputs) and targets (examples,).

    tally: -> (k,) sums over the examples, computed on the device of the outputs, without reading them back.
    read: sums of all validation examples and their number -> metrics by name, without `val/`.
    fit: the values that scores need from val (for example a residual variance), as plain values.
    score: on the CPU, with the result of `fit` -> metrics by name, and arguments of `save_predictions`.
    form: the kind of several outputs per example: "tokens", "pixels", "labels" or "values"; "" if there is one.
    """

    tally: Callable[[Tensor, Tensor], Tensor]
    read: Callable[[Sequence[float], int], Mapping[str, float]]
    fit: Callable[[Tensor, Tensor], Mapping[str, float]]
    score: Callable[[Tensor, Tensor, Mapping[str, float]], Scores]
    form: str = ""


def classification() -> Scoring:
    """Return a scoring of classes by accuracy during training, and by accuracy, NLL, Brier score and ECE at the end."""
    return Scoring(
        tally=lambda outputs, targets: (outputs.argmax(1) == targets).sum(dtype=torch.float64).view(1),
        read=lambda sums, n: {"accuracy": sums[0] / n},
        fit=lambda outputs, targets: {},
        score=_score_classes,
    )


def _score_classes(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
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


def ece(probs: Tensor, hits: Tensor) -> float:
    """Return the expected calibration error of the top label, equal-width bins (Guo et al., 2017, eq. 3).

    probs (examples, classes); hits (examples,) whether the top label is right; bins are open on the left.
    """
    top = probs.max(1).values
    index = (top * ECE_BINS).ceil().long().clamp(1, ECE_BINS) - 1
    gap = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, index, hits.double() - top.double())
    return float(gap.abs().sum() / len(top))


MOST = 25_000_000  # probabilities of a split that are kept


def every(form: str, axis: int, more: Callable[[Tensor, Tensor, float], Mapping[str, float]]) -> Scoring:
    """Return a scoring by accuracy and NLL over the tokens or pixels that count.

    axis: of the classes in the outputs. more: (log-probabilities, targets, NLL) -> further metrics.
    """

    def rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = outputs.movedim(axis, -1).flatten(0, -2)
        counted = (targets.flatten() != IGNORED).nonzero()[:, 0]
        return flat[counted], targets.flatten()[counted], counted

    def tally(outputs: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED
        hits = (outputs.argmax(axis) == targets) & counted
        return torch.stack([hits.sum(dtype=torch.float64), counted.sum(dtype=torch.float64)])

    def score(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
        flat, truth, counted = rows(outputs, targets)
        logs = flat.double().log_softmax(1)
        nll = float(-logs.gather(1, truth[:, None]).mean())
        metrics = {"accuracy": float((flat.argmax(1) == truth).double().mean()), "nll": nll}
        kept = {"probs": logs.exp().float(), "targets": truth, "rows": counted}
        return {**metrics, **more(logs, truth, nll)}, kept if logs.numel() <= MOST else {}

    return Scoring(
        tally=tally, read=lambda sums, n: {"accuracy": sums[0] / sums[1]}, fit=lambda outputs, targets: {}, score=score,
        form=form,
    )  # fmt: skip


def tokens() -> Scoring:
    """Return a scoring by accuracy, NLL and perplexity of the next token."""
    return every("tokens", -1, lambda logs, truth, nll: {"perplexity": exp(nll)})


def pixels() -> Scoring:
    """Return a scoring of pixels by accuracy, NLL and mean intersection over union of the classes that occur."""

    def iou(logs: Tensor, truth: Tensor, nll: float) -> Mapping[str, float]:
        guess = logs.argmax(1)
        both = []
        for c in _occurring(truth):
            both.append(((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum())
        return {"iou": float(torch.stack(both).double().mean())}

    return every("pixels", 1, iou)


def labels() -> Scoring:
    """Return a scoring of several labels per example by accuracy, F1 over all labels, NLL and Brier score.

    The probabilities of the labels are kept.
    """

    def score(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
        probs, truth = outputs.double().sigmoid(), targets.double()
        guess = (outputs > 0).double()
        hits = float((guess * truth).sum())
        metrics = {
            "accuracy": float((guess == truth).double().mean()),
            "f1": 2 * hits / max(1.0, float(guess.sum() + truth.sum())),
            "nll": float(torch.nn.functional.binary_cross_entropy_with_logits(outputs.double(), truth)),
            "brier": float((probs - truth).square().mean()),
        }
        return metrics, {"mean": probs, "targets": truth}

    return Scoring(
        tally=lambda outputs, targets: ((outputs > 0) == (targets > 0.5)).double().mean(1).sum().view(1),
        read=lambda sums, n: {"accuracy": sums[0] / n},
        fit=lambda outputs, targets: {},
        score=score,
        form="labels",
    )


def values() -> Scoring:
    """Return a scoring of several numbers per example by RMSE, MAE and R2, each a mean over the numbers."""

    def score(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
        guess, truth = outputs.double(), targets.double()
        return _errors(guess, truth), {"mean": guess, "targets": truth}

    return Scoring(
        tally=lambda outputs, targets: (outputs - targets).double().square().flatten(1).mean(1).sum().view(1),
        read=lambda sums, n: {"rmse": sqrt(sums[0] / n)},
        fit=lambda outputs, targets: {},
        score=score,
        form="values",
    )


def _errors(guess: Tensor, truth: Tensor) -> dict[str, float]:
    """Return RMSE, MAE and R2, averaged over the numbers if examples have several."""
    error = (guess - truth).square()
    return {
        "rmse": sqrt(float(error.mean())),
        "mae": float((guess - truth).abs().mean()),
        "r2": float((1 - error.sum(0) / (truth - truth.mean(0)).square().sum(0)).mean()),
    }


def measured(scoring: Scoring, metrics: Mapping[str, Any]) -> Scoring:
    """Return a scoring with more metrics: each is (predictions, targets) -> number, or an object of torchmetrics.

    It gets the predictions that are kept: probabilities, or values in the unit of the targets.
    """

    def score(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
        found, kept = scoring.score(outputs, targets, fitted)
        said = kept["probs"] if "probs" in kept else kept["mean"]
        more = {name: _measure(metric, said, kept["targets"]) for name, metric in metrics.items()}
        return {**found, **more}, kept

    return replace(scoring, score=score)


def _measure(metric: Any, said: Tensor, targets: Tensor) -> float:
    if hasattr(metric, "update") and hasattr(metric, "compute"):
        own = copy.deepcopy(metric)  # it accumulates its inputs, so every run starts with an empty one
        own.update(said, targets)
        return float(own.compute())
    return float(metric(said, targets))


def _occurring(targets: Tensor) -> list[int]:
    return sorted(set(targets.tolist()))


def f1(probs: Tensor, targets: Tensor) -> float:
    """Return the F1 score, averaged over the classes that occur."""
    guess, found = probs.argmax(1), []
    for each in _occurring(targets):
        hits = ((guess == each) & (targets == each)).sum().double()
        found.append(2 * hits / ((guess == each).sum() + (targets == each).sum()))
    return float(torch.stack(found).mean())


def balanced_accuracy(probs: Tensor, targets: Tensor) -> float:
    """Return the accuracy within each class, averaged over the classes that occur."""
    hits = (probs.argmax(1) == targets).double()
    return float(torch.stack([hits[targets == each].mean() for each in _occurring(targets)]).mean())


def top5_accuracy(probs: Tensor, targets: Tensor) -> float:
    """Return how often the target is among the five most probable classes."""
    best = probs.topk(min(5, probs.shape[1]), dim=1).indices
    return float((best == targets[:, None]).any(1).double().mean())


NAMED: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "f1": f1, "balanced_accuracy": balanced_accuracy, "top5_accuracy": top5_accuracy,
}  # fmt: skip


def regression(data: Dataset, variance: Literal["residual", "predicted"]) -> Scoring:
    """Return a scoring of one number by RMSE, and at the end also MAE, R2 and Gaussian NLL, in the targets' units."""
    mean, std = data.target_mean, data.target_std

    def fit(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        if variance == "predicted":
            return {}
        return {"residual_variance": float((outputs[:, 0] - targets).double().square().mean()) * std**2}

    def score(outputs: Tensor, targets: Tensor, fitted: Mapping[str, float]) -> Scores:
        truth, guess = targets.double() * std + mean, outputs[:, 0].double() * std + mean
        var = (
            outputs[:, 1].double().exp() * std**2
            if variance == "predicted"
            else torch.full_like(guess, fitted["residual_variance"])
        )
        # The NLL of the Gaussian density, with its constant: comparable between models of any variance.
        nll = float(((guess - truth).square() / var + var.log()).mean() + log(2 * pi)) / 2
        return {**_errors(guess, truth), "nll": nll}, {"mean": guess, "var": var, "targets": truth}

    return Scoring(
        tally=lambda outputs, targets: (outputs[:, 0] - targets).double().square().sum().view(1),
        read=lambda sums, n: {"rmse": sqrt(sums[0] / n) * std},
        fit=fit,
        score=score,
    )
