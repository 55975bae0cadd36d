"""Names of metrics: the direction, the split, and whether it is a score; the direction can be declared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from sweep.errors import ConfigError

Goal = Literal["max", "min"]
Split = Literal["test", "val", "train", ""]

# In the order in which the headline metric is chosen.
KNOWN: Mapping[str, Goal] = {
    **dict.fromkeys(("accuracy", "acc", "balanced_accuracy", "auroc", "auprc", "f1", "precision", "recall"), "max"),
    **dict.fromkeys(("r2", "top5_accuracy", "coverage_gain", "log_likelihood"), "max"),
    **dict.fromkeys(("loss", "nll", "brier", "ece", "error", "perplexity"), "min"),
    **dict.fromkeys(("rmse", "mse", "mae", "crps"), "min"),
}  # fmt: skip

# Other usual names. A name of several words is recognised by the last ones: `mean_squared_error`, `binary_logloss`.
_MORE = """
    auc aucpr rocauc prauc auc_roc auc_pr ap map ndcg mrr average_precision fscore fbeta mcc matthews_corrcoef kappa
    iou miou dice jaccard hit hits hit_rate success success_rate win_rate pass pass_rate exact_match bleu sacrebleu
    chrf meteor rouge rougel rougelsum psnr ssim elbo likelihood reward rewards rew return returns sensitivity
    specificity tpr tnr spearman spearmanr pearson pearsonr correlation explained_variance top purity nmi ari elo cider
    spice c_index concordance concordance_index inception_score
    coefficient_of_determination
"""
_LESS = """
    logloss mlogloss merror err error_rate wer cer ter eer ppl bpc bpb bits_per_byte bits_per_character crossentropy
    cross_entropy xent bce hinge mape smape mase msle rmsle fid kid lpips regret fpr fnr kl divergence deviance
    misclassification misclassification_rate
"""
_USUAL: Mapping[str, Goal] = {**KNOWN, **dict.fromkeys(_MORE.split(), "max"), **dict.fromkeys(_LESS.split(), "min")}

_SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("train", "training", "trn"), "train"),
}  # fmt: skip

# Words about how a metric was averaged or when it was taken: they tell nothing about its direction.
_ASIDE = frozenset({
    "mean", "avg", "average", "averaged", "macro", "micro", "weighted", "overall", "total", "final", "last", "best",
    "running", "smoothed", "epoch", "step", "score", "value", "metric", "median", "at", "k", "ep", "episode", "sum",
})  # fmt: skip

_NOT_SCORES = frozenset({
    "epoch", "epochs", "step", "steps", "global_step", "iteration", "iterations", "iter", "batch", "batch_size",
    "batch_idx", "lr", "learning_rate", "weight_decay", "momentum", "seed", "rank", "fold", "time", "wall_time",
    "walltime", "timestamp", "date", "elapsed", "time_elapsed", "runtime", "seconds", "duration", "eta", "fps", "sps",
    "samples_per_second", "steps_per_second", "tokens_per_second", "samples_per_sec", "it_per_sec", "total_flos",
    "flops", "grad_norm", "hp_metric", "total_timesteps", "timesteps", "n_updates", "num_params", "n_params",
    "parameters", "params", "memory", "gpu", "version", "pid", "epoch_time", "step_time", "loss_scale",
    "samples", "num_samples", "n_samples", "num_input_tokens_seen", "ep_len_mean", "preparation_time",
})  # fmt: skip

# A name with one of these may be a setting and not a result, as in `target_accuracy: 0.95`.
_ASKED = frozenset(("target", "goal", "threshold", "desired", "required", "limit"))

ARROWS: Mapping[Goal | None, str] = {"max": "↑", "min": "↓", None: ""}


def direction(metric: str, goals: Mapping[str, str] | None = None) -> Goal | None:
    """Return "max", "min", or None if it is unknown; `goals` (from the config) come first.

    metric: `split/metric`, `split_metric` or a bare name, in any case. A goal is looked up by the full name, then by
    its last part. Raises ConfigError if a goal is neither max nor min.
    """
    leaf = metric.rpartition("/")[2]
    for name in (metric, leaf):
        declared = (goals or {}).get(name)
        if declared in ("max", "min"):
            return "max" if declared == "max" else "min"
        if declared is not None:
            raise ConfigError(f"must be max or min, not {declared!r}", where=f"goals.{name}")
    return _named(metric)


def with_arrow(name: str, goal: Goal | None) -> str:
    """Return "test/accuracy ↑": a name with its better direction, if known."""
    return f"{name} {ARROWS[goal]}".rstrip()


def unknown_direction(metric: str) -> str:
    """Return the message for a metric without a goal."""
    return f"it is not known whether larger or smaller values of {metric!r} are better"


def better(metric: str, a: float, b: float) -> bool:
    """Return whether `a` is better than `b`. Raise ConfigError if the direction of the metric is unknown."""
    goal = direction(metric)
    if goal is None:
        raise ConfigError(
            unknown_direction(metric),
            where="goals",
            hint=f"set it in the config: goals: {{{metric.rpartition('/')[2]}: max}}",
        )
    return a > b if goal == "max" else a < b


@lru_cache(4096)
def split_of(metric: str) -> Split:
    """Return the split that a name mentions: `test_acc` and `Test/Accuracy` are "test", `eval_loss` is "val"."""
    found = [split for word in _words(metric) if (split := _SPLITS.get(word))]
    return found[0] if found else ""


@lru_cache(4096)
def is_score(metric: str) -> bool:
    """Return whether a name may be a headline: steps, rates, clocks, counts and Lightning's `hp_metric` may not."""
    words = [word for word in _words(metric) if word not in _SPLITS]
    if not words or "_".join(words) in _NOT_SCORES:
        return False
    # Lightning's `val_loss_epoch` is a loss, `best_epoch` is not.
    return bool(stem(metric)) or not any("_".join(words[start:]) in _NOT_SCORES for start in range(len(words)))


def is_split(name: str) -> bool:
    """Return whether a name is only that of a split, such as `Train`."""
    words = _words(name)
    return bool(words) and all(word in _SPLITS for word in words)


def primary_of(metrics: Sequence[str], goals: Mapping[str, str] | None = None) -> str:
    """Return the default primary metric: test before val before train, scores only.

    Within a split, metrics with a known direction come first, in the order of `KNOWN`; parts of a loss, such as
    `losses/policy_loss`, are the last of these. Final values come before best ones. "" if there is no metric.
    """
    order = list(_USUAL)
    # Keras and Transformers call the training loss `loss`, beside `val_loss` or `eval_loss`.
    held_out = {stem(metric) for metric in metrics if split_of(metric) in ("test", "val")} - {""}

    def rank(metric: str) -> tuple[int, bool, int, bool, str]:
        known, usual = direction(metric, goals) is not None, stem(metric)
        split = split_of(metric) or ("train" if usual in held_out or (held_out and usual == "loss") else "")
        asked = not _ASKED.isdisjoint(_words(metric))
        place = {"test": 0, "": 1 if known and not asked else 3, "val": 2, "train": 4}[split]
        nth = order.index(usual) if usual in order and not _part_of_a_loss(metric) else len(order)
        return place, not known, nth, "best" in _words(metric), metric

    return min((m for m in metrics if is_score(m)), key=rank, default=next(iter(sorted(metrics)), ""))


def _part_of_a_loss(metric: str) -> bool:
    """Return whether a loss is one of several terms, such as `policy_loss` or an entry of `losses/`."""
    leaf = {word for word in _words(metric.rpartition("/")[2]) if not word.isdigit()}
    return stem(metric) == "loss" and ("losses" in _words(metric) or not leaf <= {"loss", *_SPLITS, *_ASIDE})


@lru_cache(4096)
def _named(metric: str) -> Goal | None:
    goal = _USUAL.get(stem(metric)) if is_score(metric) else None
    if goal is not None and not {"neg", "negative", "minus"}.isdisjoint(_words(metric)):
        return "min" if goal == "max" else "max"  # `neg_log_loss`, as scikit-learn scores
    return goal


@lru_cache(4096)
def stem(metric: str) -> str:
    """Return the usual name that a metric ends with, such as `loss` or `accuracy`, or ""."""
    words = [word for word in _words(metric) if word not in _SPLITS]
    for cut in (words, [re.sub(r"@?\d+$", "", word) or word for word in words if not word.isdigit()]):
        for kept in (cut, [word for word in cut if word not in _ASIDE]):
            for start in range(len(kept)):
                for joint in ("_", ""):
                    if (name := joint.join(kept[start:])) in _USUAL:
                        return name
    return ""


@lru_cache(4096)
def _words(metric: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: `valLoss`, `val_loss`, `val/loss` and `Val Loss` are alike."""
    parts = re.split(r"[\s_/.:|()\[\]-]+", metric)
    found: list[str] = []
    for part in parts:
        whole = part.lower()
        # `mIoU`, `mAP` and `AUROC` are single words; `valLoss` and `TestAccuracy` are two words.
        if whole in _USUAL or re.sub(r"@?\d+$", "", whole) in _USUAL or part.isupper() or part.islower():
            found.append(whole)
        else:
            found += [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])[0-9@]*|[A-Z]?[^A-Z]+|[A-Z]+", part)]
    return tuple(word for word in found if word)
