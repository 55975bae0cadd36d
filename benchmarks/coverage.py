"""Coverage of every interval and error rate of every rule that `sweep` prints: the table of docs/evidence/coverage.md.

    python benchmarks/coverage.py                        # some minutes on one core
    python benchmarks/coverage.py --repetitions 1000 --only intervals

Each study draws seeds from a known distribution, calls `sweep.stats` as the report does, and counts how often
the result is right. Two standard errors of a rate near .95 over 4,000 repetitions are .007.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep import stats
from sweep.stats import stopping
from sweep.stats.interval import t_quantile
from sweep.stats.tasks import Statistic, average, interquartile_mean

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
SIZES = (3, 5, 10, 20)
WIDTHS = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1, 3)  # in sd of the seeds


@dataclass(frozen=True)
class Row:
    """One line of the table: what, under which conditions, and the measured rates."""

    study: str
    what: str
    rates: tuple[float, ...]
    expected: tuple[float, ...] | str


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(size=shape)


def near_ceiling(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw accuracies near 1: Beta with mean .99 and sd .008, standardised; skewness -1.6."""
    weight = 0.99 * 0.01 / 0.008**2 - 1
    return (rng.beta(0.99 * weight, 0.01 * weight, size=shape) - 0.99) / 0.008


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw seeds of which half find one solution and half another."""
    return rng.choice([-1.0, 1.0], size=shape) + rng.normal(scale=0.1, size=shape)


def diverging(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw seeds of which 5 % end at chance and count in the mean, less that mean."""
    failed = rng.random(shape) < 0.05
    return np.where(failed, 0.1, rng.normal(0.9, 0.005, size=shape)) - (0.05 * 0.1 + 0.95 * 0.9)


def exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw from the exponential distribution less its mean: skewness 2, sd 1."""
    return rng.exponential(size=shape) - 1


def log_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw from the log-normal distribution, standardised: skewness 6."""
    raw = rng.lognormal(0, 1, size=shape)
    return (raw - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


def t_coverage(draw: Draw, n: int, repetitions: int, rng: np.random.Generator) -> float:
    """Return how often the t interval holds the true mean, 0."""
    return float(np.mean([_holds(stats.t_interval(values)) for values in draw(rng, (repetitions, n))]))


def bootstrap_coverage(
    draw: Draw,
    n: int,
    repetitions: int,
    rng: np.random.Generator,
    method: str,
    statistic: Statistic = average,
) -> float:
    """Return the same for the bootstrap, which is not offered: "percentile" or "bca"."""
    from scipy.stats import bootstrap

    hits = 0
    for values in draw(rng, (repetitions, n)):
        if method == "percentile":
            low, high = np.quantile(statistic(values[rng.integers(0, n, (999, n))]), [0.025, 0.975])
        else:
            low, high = bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=rng).confidence_interval
        hits += low <= 0 <= high
    return hits / repetitions


def _holds(interval: stats.Interval | None) -> bool:
    return interval is not None and 0 in interval


def intervals(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    def row(what: str, expected: tuple[float, ...], rate: Callable[[int], float]) -> Row:
        return Row("coverage of 95 %, n = 3/5/10/20", what, tuple(rate(n) for n in SIZES), expected)

    yield row("normal, t", (0.95, 0.95, 0.95, 0.95), lambda n: t_coverage(normal, n, repetitions, rng))
    yield row(
        "normal, percentile bootstrap",
        (0.75, 0.83, 0.90, 0.92),
        lambda n: bootstrap_coverage(normal, n, repetitions, rng, "percentile"),
    )
    yield row(
        "normal, BCa bootstrap",
        (0.72, 0.83, 0.90, 0.92),
        lambda n: bootstrap_coverage(normal, n, repetitions, rng, "bca"),
    )
    yield row(
        "accuracy near 1, t",
        (0.91, 0.91, 0.91, 0.93),
        lambda n: t_coverage(near_ceiling, n, repetitions, rng),
    )
    yield row("bimodal, t", (0.76, 0.94, 0.94, 0.95), lambda n: t_coverage(bimodal, n, repetitions, rng))
    yield row("5 % diverging, t", (0.14, 0.22, 0.39, 0.64), lambda n: t_coverage(diverging, n, repetitions, rng))
    yield row(
        "5 % diverging, percentile bootstrap",
        (0.14, 0.22, 0.39, 0.64),
        lambda n: bootstrap_coverage(diverging, n, repetitions, rng, "percentile"),
    )


def median_of(values: Floats) -> Floats:
    return np.asarray(np.median(values, axis=-1))


def refusals(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the coverage that refused intervals would have had."""
    rate = bootstrap_coverage(normal, 3, repetitions, rng, "percentile", median_of)
    yield Row("refused", "bootstrap median of 3 seeds, coverage", (rate,), (0.73,))
    rate = repeats_as_seeds(repetitions, rng)
    yield Row("refused", "3 seeds x 5 repeats taken for 15 seeds, coverage", (rate,), (0.72,))


def repeats_as_seeds(repetitions: int, rng: np.random.Generator, averaged: bool = False) -> float:
    """Return the coverage with repeats (as noisy as seeds) pooled, or averaged within their seed."""
    seeds = np.repeat([1, 2, 3], 5)
    hits = 0
    for _ in range(repetitions):
        runs = np.repeat(rng.normal(size=3), 5) + rng.normal(scale=1.0, size=15)
        hits += _holds(stats.t_interval(stats.per_seed(runs, seeds)[1] if averaged else runs))
    return hits / repetitions


def resplit_coverage(
    repetitions: int, rng: np.random.Generator, *, n: int = 400, splits: int = 10, features: int = 20
) -> tuple[float, float]:
    """Return the coverage of new data's accuracy by ten random splits of 25 % of one data set: (plain t, corrected).

    A linear discriminant (pooled covariance) of two Gaussian classes that differ in one feature by 2 sd.
    """
    taken = n // 4

    def accuracy(x: Floats, y: Floats, held: Floats, truth: Floats) -> float:
        centres = [x[y == label].mean(axis=0) for label in (0, 1)]
        within = np.concatenate([x[y == label] - centre for label, centre in zip((0, 1), centres, strict=True)])
        weights = np.linalg.solve(within.T @ within / len(x), centres[1] - centres[0])
        return float(np.mean((held @ weights > weights @ (centres[0] + centres[1]) / 2) == (truth == 1)))

    def draw(count: int) -> tuple[Floats, Floats]:
        y = (np.arange(count) % 2).astype(np.float64)
        return rng.normal(size=(count, features)) + 2 * np.eye(features)[0] * y[:, None], y

    truth = float(np.mean([accuracy(*draw(n - taken), *draw(2000)) for _ in range(400)]))
    plain = corrected = 0
    for _ in range(repetitions):
        x, y = draw(n)
        order = [rng.permutation(n) for _ in range(splits)]
        values = [accuracy(x[i[taken:]], y[i[taken:]], x[i[:taken]], y[i[:taken]]) for i in order]
        for ratio in (None, taken / (n - taken)):
            held = _between(stats.summarise(values, ratio=ratio), truth)
            plain += held and ratio is None
            corrected += held and ratio is not None
    return plain / repetitions, corrected / repetitions


def cross_validated(
    folds: int,
    seeds: int,
    noise: float,
    repetitions: int,
    rng: np.random.Generator,
    *,
    n: int = 200,
    paired: bool = True,
) -> dict[str, float]:
    """Return rates of cross-validation, folds x seeds: coverage for new data, and how often two equal learners differ.

    Two linear discriminants of ten features each, in one of which two Gaussian classes differ by 2 sd: on average they
    are equally good. A seed adds noise to the weights, `noise` times their root mean square: three quarters of its
    variance are the seed's own in all folds. "for new data" and "equals differ" are as the report does it; "folds
    alone" leaves out what the seeds add, "seeds alone" is the plain t over the means of seeds.
    """
    part, ratio = np.arange(n) * folds // n, 1 / (folds - 1)
    truth, made = 0.0, []
    for _ in range(repetitions):
        y = np.arange(n) % 2
        x = rng.normal(size=(n, 20))
        x[:, [0, 10]] += 2 * y[:, None]
        arms = []
        for features in (slice(0, 10), slice(10, 20)):
            own, rates = rng.normal(size=(seeds, 10)), np.empty((seeds, folds))
            for k in range(folds):
                train, labels, test = x[part != k, features], y[part != k], x[part == k, features]
                centres = [train[labels == label].mean(axis=0) for label in (0, 1)]
                rest = np.where(labels[:, None] == 1, train - centres[1], train - centres[0])
                weights = np.linalg.solve(rest.T @ rest / len(train), centres[1] - centres[0])
                each = math.sqrt(0.75) * own + math.sqrt(0.25) * rng.normal(size=(seeds, 10))
                drawn = weights + noise * each * np.linalg.norm(weights) / math.sqrt(10)
                bounds = drawn @ (centres[0] + centres[1]) / 2
                rates[:, k] = ((test @ drawn.T > bounds) == (y[part == k, None] == 1)).mean(axis=0)
                length = np.linalg.norm(drawn, axis=1)  # the accuracy on endless data, one feature being shifted by 2
                right = special.ndtr((2 * drawn[:, 0] - bounds) / length) + special.ndtr(bounds / length)
                truth += float(right.mean()) / 4 / folds / repetitions
            arms.append(rates)
        made.append(arms)
    found = dict.fromkeys(("for new data", "folds alone", "seeds alone", "equals differ", "equal seeds differ"), 0.0)
    for a, b in made:
        whole, gap = stats.summarise(a, ratio=ratio), stats.fold_difference(a, b, ratio, paired=paired)
        merged = stats.summarise(a.mean(axis=0, keepdims=True), ratio=ratio)
        plain = stats.t_interval(a.mean(axis=1))
        found["for new data"] += _between(whole, truth)
        found["folds alone"] += _between(merged, truth)
        found["seeds alone"] += plain is not None and truth in plain
        found["equals differ"] += not _holds(gap.interval)
        found["equal seeds differ"] += not _holds(stats.difference(a.mean(1), b.mean(1), paired=paired).interval)
    return {name: count / repetitions for name, count in found.items()}


def _between(found: stats.Summary, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


FOLDS = ((5, 1), (2, 3), (5, 3), (10, 3), (5, 10))  # folds, seeds


def folds(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    for noise in (0.3, 1.5):
        label = f"cross-validation, LDA, n = 200, seed noise {noise:g}, folds x seeds 5x1/2x3/5x3/10x3/5x10"
        # One seed does not show the noise between seeds, and its caption is "for this seed".
        found = [cross_validated(k, seeds, noise, repetitions, rng) for k, seeds in FOLDS]
        expected = {"for new data": "at least .94, but of one seed", "equals differ": "at most .06, but of one seed"}
        for name in ("for new data", "folds alone", "seeds alone", "equals differ", "equal seeds differ"):
            yield Row(label, name, tuple(one[name] for one in found), expected.get(name, "(not offered)"))
        apart = [cross_validated(k, seeds, noise, repetitions, rng, paired=False) for k, seeds in FOLDS]
        yield Row(label, "equals differ, other seeds", tuple(one["equals differ"] for one in apart), "at most .06")


def splits(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    plain, corrected = resplit_coverage(repetitions, rng)
    label = "new data, LDA, n = 400, ten splits of 25 %"
    yield Row(label, "Student t over splits, variance by Nadeau & Bengio", (corrected,), (0.954,))
    yield Row(label, "plain t over splits (not offered for new data)", (plain,), (0.70,))


def type_one(n: int, repetitions: int, rng: np.random.Generator, *, paired: bool) -> float:
    """Return how often two equal configurations differ at 5 %."""
    arms = rng.normal(size=(repetitions, 2, n))
    return float(np.mean([not _holds(stats.difference(a, b, paired=paired).interval) for a, b in arms]))


def bootstrap_type_one(n: int, repetitions: int, rng: np.random.Generator) -> float:
    """Return the same for the percentile bootstrap of a difference, which is not offered."""
    wrong = 0
    for a, b in rng.normal(size=(repetitions, 2, n)):
        gaps = a[rng.integers(0, n, (999, n))].mean(axis=1) - b[rng.integers(0, n, (999, n))].mean(axis=1)
        low, high = np.quantile(gaps, [0.025, 0.975])
        wrong += not low <= 0 <= high
    return wrong / repetitions


def peeking(looks: tuple[int, ...], repetitions: int, rng: np.random.Generator) -> float:
    """Return how often a paired t test that looks at each of these n finds a difference between equals."""
    found = 0
    for a, b in rng.normal(size=(repetitions, 2, max(looks))):
        found += any(not _holds(stats.paired_t(a[:n], b[:n]).interval) for n in looks)
    return found / repetitions


def comparisons(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    study, sizes = "type I at 5 %, n = 3/5/10", (3, 5, 10)
    rates = tuple(type_one(n, repetitions, rng, paired=False) for n in sizes)
    yield Row(study, "Welch t", rates, (0.034, 0.042, 0.047))
    rates = tuple(type_one(n, repetitions, rng, paired=True) for n in sizes)
    yield Row(study, "paired t", rates, (0.055, 0.050, 0.052))
    rates = tuple(bootstrap_type_one(n, repetitions, rng) for n in sizes)
    yield Row(study, "percentile bootstrap of the difference (not offered)", rates, (0.19, 0.12, 0.08))
    yield Row("peeking", "10 seeds, then 16", (peeking((10, 16), repetitions, rng),), (0.080,))
    yield Row("peeking", "5, 10, 15, 20 seeds", (peeking((5, 10, 15, 20), repetitions, rng),), (0.132,))
    dropped, ranked = failing(repetitions, rng)
    yield Row("A fails 20 %, gains 1 sd; n = 10", "dropping failures calls A better", (dropped,), (0.50,))
    yield Row("A fails 20 %, gains 1 sd; n = 10", "mean worst-rank P(A > B)", (ranked,), (0.608,))
    rates = tuple(superiority_coverage(n, 0.5, repetitions, rng) for n in sizes)
    yield Row("coverage of 95 %, n = 3/5/10", "P(A > B), Newcombe method 5, d = .5", rates, "at least .95")
    rates = tuple(called_significant(n, n, repetitions, rng) for n in (3, 4, 5, 10))
    yield Row("two equals, n = 3/4/5/10", "P(A > B) called significant", rates, "at most .05")


def called_significant(m: int, n: int, repetitions: int, rng: np.random.Generator) -> float:
    """Return how often P(A > B) of two equals is called significant, in either direction."""
    found = 0
    for values in rng.normal(size=(repetitions, m + n)):
        made = stats.superiority(values[:m], values[m:], higher_is_better=True)
        p = made.probability
        sides = ((made.interval, p), (stats.mirrored(made.interval), 1 - p))
        found += any(stats.reading(side, q, m, n).startswith("significant") for side, q in sides)
    return found / repetitions


def failing(repetitions: int, rng: np.random.Generator) -> tuple[float, float]:
    """Let A fail on 20 % of its seeds and gain 1 sd on the rest: (A called better if dropped, worst-rank P)."""
    better, total = 0, 0.0
    for a, b in rng.normal(size=(repetitions, 2, 10)):
        a = np.where(rng.random(10) < 0.2, math.nan, a + 1)
        survivors = a[np.isfinite(a)]
        interval = stats.welch(survivors, b).interval if survivors.size else None
        better += interval is not None and interval.low > 0
        total += stats.superiority(a, b, higher_is_better=True).probability
    return better / repetitions, total / repetitions


def superiority_coverage(n: int, effect: float, repetitions: int, rng: np.random.Generator) -> float:
    truth = 0.5 * math.erfc(-effect / 2)  # Φ(effect/√2)
    hits = 0
    for a, b in rng.normal(size=(repetitions, 2, n)):
        found = stats.superiority(a + effect, b, higher_is_better=True)
        hits += truth in found.interval
    return hits / repetitions


def width_coverage(
    width: float, repetitions: int, rng: np.random.Generator, draw: Draw = normal, max_seeds: int = 600
) -> tuple[float, float]:
    """Return (how often mean ± width holds the truth, mean number of seeds), of the studies that met the width."""
    values = draw(rng, (repetitions, max_seeds))
    ends = stopping.width_kept(stopping.width_met(values, width))
    reached = ends.any(axis=1)
    stop = ends.argmax(axis=1) + 1
    means = np.cumsum(values, axis=1)[np.arange(repetitions), stop - 1] / stop
    return float(np.mean(np.abs(means[reached]) <= width)), float(np.mean(stop[reached]))


def sequence_type_one(repetitions: int, rng: np.random.Generator, last: int = 100) -> tuple[float, float]:
    """Return how often looks after each seed to `last` name an order of equals: (the sequence, a naive t from 3 on)."""
    gaps = rng.normal(size=(repetitions, last))
    n, centre, spread = (part[..., 2:] for part in stopping.prefix_moments(gaps))
    quantiles = np.array([t_quantile(k - 1, 0.975) for k in n[0]])
    naive = np.abs(centre) > quantiles * spread / np.sqrt(n)
    return float(stopping.excludes_zero(gaps).any(axis=1).mean()), float(naive.any(axis=1).mean())


def adaptive(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    def row(draw: Draw, widths: tuple[float, ...], expected: str) -> Row:
        label = "adaptive seeds, width " + "/".join(f"{width:g}" for width in widths) + " sd"
        rates = tuple(width_coverage(width, repetitions, rng, draw)[0] for width in widths)
        return Row(label, f"coverage, {draw.__name__.replace('_', '-')}", rates, expected)

    yield row(normal, WIDTHS, "at least .945")
    yield row(near_ceiling, WIDTHS, "at least .91")
    yield row(exponential, WIDTHS, "at least .90")
    yield row(log_normal, WIDTHS, "not promised")
    sequence, naive = sequence_type_one(repetitions, rng)
    yield Row("order of equals, looks to 100 seeds", "confidence sequence", (sequence,), "at most .05")
    yield Row("order of equals, looks to 100 seeds", "naive t", (naive,), (0.36,))


def scored(runs: int, examples: int, rng: np.random.Generator, seed_sd: float) -> Floats:
    """Draw right (1) and wrong (0) answers: examples differ in difficulty, runs in quality; see `true_accuracy`."""
    hard = rng.normal(2.0, 1.5, size=examples)
    good = rng.normal(0, seed_sd, size=(runs, 1))
    return (rng.random((runs, examples)) < 1 / (1 + np.exp(-(hard + good)))).astype(np.float64)


def true_accuracy(seed_sd: float) -> float:
    """Return the expected score of `scored` over endless seeds and examples."""
    x = np.linspace(-10, 10, 20_001) * math.hypot(1.5, seed_sd)
    weight = np.exp(-0.5 * (x / math.hypot(1.5, seed_sd)) ** 2)
    return float(np.sum(weight / (1 + np.exp(-(2.0 + x)))) / weight.sum())


def two_way_coverage(
    runs: int, examples: int, seed_sd: float, repetitions: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the coverage of the true accuracy: (two-way interval, t over seeds only)."""
    truth = true_accuracy(seed_sd)
    both = alone = 0
    for _ in range(repetitions):
        table = scored(runs, examples, rng, seed_sd)
        both += truth in stats.two_way_interval(table).interval
        over_seeds = stats.t_interval(table.mean(axis=1))
        alone += over_seeds is not None and truth in over_seeds
    return both / repetitions, alone / repetitions


def examples_and_seeds(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    for examples, seed_sd in ((500, 0.05), (500, 0.2), (2000, 0.1)):
        label = f"true accuracy, {examples} examples, R = 5/10, seed sd {seed_sd} logits"
        found = [two_way_coverage(runs, examples, seed_sd, repetitions, rng) for runs in (5, 10)]
        yield Row(label, "two-way interval", tuple(both for both, _ in found), ".946 to .963")
        yield Row(label, "t over seeds only", tuple(alone for _, alone in found), ".54 to .87")


def over_tasks(count: int, n: int, repetitions: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the coverage of results over `count` tasks with n seeds each; the truth is the value at endless seeds.

    Tasks differ by a factor of ten, and so do their seeds: 30 % of a task's level. B is better than A by a tenth of
    that. A run rises to its level over 12 steps, with 3 % noise at each.
    """
    level = np.exp(0.7 * special.ndtri((np.arange(count) + 0.5) / count))[:, None]
    at, steps = np.linspace(0.25, 2.0, 8), np.arange(1, 13)
    rise = (1 - np.exp(-steps / 4))[:, None, None]

    def draw(seeds: int) -> tuple[Floats, Floats, Floats]:
        a, b = (level * (1 + 0.3 * rng.normal(size=(count, seeds)) + gain) for gain in (0.0, 0.03))
        return a, b, rise * a * (1 + 0.03 * rng.normal(size=(12, count, seeds)))

    def worth(curves: Floats) -> Floats:
        return interquartile_mean(curves.reshape(len(curves), -1))

    shares = 1 - special.ndtr((at / level - 1) / 0.3).mean(axis=0)
    better = float(special.ndtr(0.03 / math.hypot(0.3, 0.3)))
    endless = draw(20_000)
    middle, curve = float(worth(endless[0][None])[0]), worth(endless[2])
    first = steps[np.flatnonzero(curve >= 0.7)[0]]
    found = dict.fromkeys((
        "mean", "IQM", "IQM, not widened (not offered)", "profile", "improvement", "IQM of a step",
        "steps to a threshold",
    ), 0.0)  # fmt: skip
    for _ in range(repetitions):
        a, b, curves = draw(n)
        mean, iqm = (stats.stratified_interval(list(a), rng, statistic=each, resamples=999)
                     for each in (average, interquartile_mean))  # fmt: skip
        profile, band = stats.performance_profile(list(a), at), stats.iqm_band(steps, curves, rng, resamples=499)
        _, interval = stats.probability_of_improvement(list(b), list(a))
        _, earliest, latest = stats.steps_to(band, 0.7)
        found["mean"] += float(level.mean()) in mean
        found["IQM"] += middle in iqm
        centre = stats.iqm(list(a))
        plain = centre + (middle - centre) * math.sqrt(n / (n - 1))
        found["IQM, not widened (not offered)"] += plain in iqm
        found["profile"] += float(np.mean((profile.low <= shares) & (shares <= profile.high)))
        found["improvement"] += interval is not None and better in interval
        found["IQM of a step"] += float(np.mean((band.low <= curve) & (curve <= band.high)))
        found["steps to a threshold"] += earliest <= first <= latest
    return {name: hits / repetitions for name, hits in found.items()}


def tasks(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    for count in (10, 39):
        found = [over_tasks(count, n, max(1, repetitions // 4), rng) for n in (3, 5, 10)]
        for name in found[0]:
            rates = tuple(each[name] for each in found)
            yield Row(f"coverage of 95 %, {count} tasks, n = 3/5/10", f"{name}, over tasks", rates, "near .95")


def gate_rate(n: int, margin: float, repetitions: int, rng: np.random.Generator) -> float:
    """Return how often an identical candidate passes `base - margin` (in sd)."""
    gate = stats.Gate("test/accuracy", ">=", "offset", -margin)
    passed = 0
    for base, candidate in rng.normal(size=(repetitions, 2, n)):
        passed += stats.decide(gate, base, candidate, paired=False, deterministic=False).code == 0
    return passed / repetitions


def gates(repetitions: int, rng: np.random.Generator) -> Iterator[Row]:
    for margin in (0.0, 1.0, 2.0):
        # The chance that the gate would print if it knew that the sd is 1.
        told = 1 - float(special.nctdtr(18, margin / math.sqrt(0.2), t_quantile(18, 0.975)))
        rate = gate_rate(10, margin, repetitions, rng)
        yield Row(f"gate at base - {margin:g} sd, n = 10", "identical candidate passes", (rate,), (told,))


STUDIES: dict[str, Callable[[int, np.random.Generator], Iterator[Row]]] = {
    "intervals": intervals,
    "refusals": refusals,
    "comparisons": comparisons,
    "adaptive": adaptive,
    "examples": examples_and_seeds,
    "tasks": tasks,
    "gates": gates,
    "splits": splits,
    "folds": folds,
}


def rendered(rates: tuple[float, ...] | str) -> str:
    return rates if isinstance(rates, str) else " / ".join(f"{rate:.3f}".removeprefix("0") for rate in rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=STUDIES, action="append", help="one study; may be repeated")
    asked = parser.parse_args()
    started = time.perf_counter()
    print(f"| study ({asked.repetitions} repetitions, seed {asked.seed}) | what | measured | expected |")
    print("|---|---|---|---|")
    for index, (name, study) in enumerate(STUDIES.items()):
        if asked.only and name not in asked.only:
            continue
        for row in study(asked.repetitions, np.random.default_rng([asked.seed, index])):
            print(f"| {row.study} | {row.what} | {rendered(row.rates)} | {rendered(row.expected)} |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
