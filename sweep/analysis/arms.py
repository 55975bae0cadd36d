"""Arms of a comparison: one configuration on one task, with one number per planned seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.analysis import frames
from sweep.analysis.findings import result_rules
from sweep.errors import StatisticsError
from sweep.stats import Summary, summarise
from sweep.store import Member, Store
from sweep.store.manifest import ADOPTED, Manifest
from sweep.variants import regrouped, variants_of, without_hash
from sweep.words import plural

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One configuration on one task.

    states: planned seed, ascending -> ok, failed, lost, running, stopped or pending. values: metric -> seed -> its
    number, for finished seeds with a finite one; by_fold: the same with one number per fold. extensions: how often
    seeds were added after results existed, except by a stopping rule. ordered: a stopping rule that compares chose its
    number of seeds. variant: the label of its variant in its own directory.
    """

    name: str
    variant: str
    task: str
    states: Mapping[int, str]
    values: Mapping[str, Mapping[int, float]]
    deterministic: bool
    extensions: int
    ordered: bool
    about: Mapping[str, str]  # what should be equal for a fair comparison: device, mode, data, rule
    directory: str
    store: Store = field(repr=False, compare=False)
    vary: tuple[str, ...] = ()
    ratio: float | None = None  # n_test/n_train, if every seed or every fold has its own split
    folds: int = 0
    by_fold: Mapping[str, Mapping[int, Sequence[float]]] = field(default_factory=dict, repr=False)
    members: tuple[Member, ...] = field(default=(), repr=False, compare=False)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.states)

    def count(self, *states: str) -> int:
        return sum(state in states for state in self.states.values())

    @property
    def adopted(self) -> bool:
        return self.store.manifest.adopted

    @property
    def failed(self) -> int:
        return self.count("failed")

    @property
    def ended(self) -> int:
        return self.count("ok", "failed")

    @property
    def unfinished(self) -> int:
        return len(self.states) - self.ended

    def missing(self, metric: str) -> int:
        """Return how many seeds finished without a finite value of this metric."""
        return self.count("ok") - len(self.values.get(metric, {}))

    def outcomes(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Return one number per seed, NaN if it failed or has none. Shape (len(seeds),)."""
        found = self.values.get(metric, {})
        return np.array([found.get(seed, np.nan) for seed in seeds], dtype=np.float64)

    def table(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Return one number per seed and fold, shape (len(seeds), folds)."""
        return np.array([self.by_fold[metric][seed] for seed in seeds])

    def summary(self, metric: str, level: float) -> Summary | None:
        """Return the mean over seeds with its interval; None if no seed has a value."""
        seeds = [*self.values.get(metric, {})]
        values = self.table(metric, seeds) if self.folds else self.outcomes(metric, seeds)
        return summarise(values, level, ratio=self.ratio) if seeds else None


def arms_of(stores: Sequence[Store], *, group_by: Sequence[str] = (), fresh: bool = False) -> list[Arm]:
    """Return every variant of every task in these directories, in planned order.

    group_by: see `sweep.variants.regrouped`. fresh: only the seeds of each directory's last extension after
    results existed. Raises StatisticsError if one directory is named twice.
    """
    names = _names([store.path for store in stores]) if len(stores) > 1 else [""]
    return [arm for store, name in zip(stores, names, strict=True) for arm in _arms(store, name, group_by, fresh)]


def _names(paths: Sequence[Path]) -> list[str]:
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        twice = next(path for path in resolved if resolved.count(path) > 1)
        raise StatisticsError(f"{str(twice)!r} is named twice", hint="name each configuration once")
    short = [path.name for path in resolved]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _arms(store: Store, name: str, group_by: Sequence[str], fresh: bool) -> Iterator[Arm]:
    manifest = store.manifest
    members = regrouped(store.scan(), manifest, group_by)
    wanted = _fresh(store) if fresh else set(manifest.seeds)
    members = [m for m in members if m.seed in wanted]
    table = frames.frame_of(members)
    metrics, rows, of = frames.metric_names(table), dict(frames.cells(table)), frames.by_cell(members)
    # In planned order, which is the order of the grid in the config.
    planned = {(c["task"], c["variant"]): i for i, c in enumerate(manifest.experiment["cells"])}
    called = {folder: one.label for folder, one in variants_of((variant for _, variant in of), manifest).items()}
    vary, folds = tuple(manifest.experiment.get("vary") or ()), manifest.folds
    for task, variant in sorted(of, key=lambda cell: planned.get(cell, 0)):
        cell, mine = rows[task, variant], tuple(of[task, variant])
        states = frames.seed_states(cell["seed"].tolist(), cell["status"].tolist())
        label = called[variant] or without_hash([variant])[0]
        yield Arm(
            name=f"{name}: {label}" if name and label else name or label,
            variant=label,
            task=task,
            states=dict(sorted(states.items())),
            values={name: _by_seed(*frames.seed_values(cell, name)) for name in metrics},
            deterministic=bool(manifest.experiment.get("deterministic")),
            extensions=0 if fresh else manifest.extensions,
            ordered=":" in str(manifest.until.get("rule", "")),
            about=_about(store, task, variant, mine),
            directory=store.shown,
            vary=vary,
            ratio=frames.test_to_train(mine, vary),
            folds=folds,
            by_fold={name: _by_seed(*frames.fold_values(cell, name, folds)) for name in metrics if folds},
            store=store,
            members=mine,
        )


def _by_seed(seeds: npt.NDArray[np.int64], values: Floats) -> dict[int, Any]:
    return dict(zip(seeds.tolist(), values.tolist(), strict=True))


def _fresh(store: Store) -> set[int]:
    later = [entry for entry in store.manifest.log if entry.results_existed and entry.added]
    if not later:
        raise StatisticsError(
            "there are no fresh seeds: none were added after results existed", where=str(store.path),
            hint="leave --fresh out",
        )  # fmt: skip
    return set(later[-1].added)


def mode_of(manifest: Manifest) -> str:
    """Return the mode in which runs were made: "fast", "deterministic", or "adopted" if they were made elsewhere."""
    return ADOPTED if manifest.adopted else "deterministic" if manifest.experiment.get("deterministic") else "fast"


def _about(store: Store, task: str, variant: str, members: Sequence[Member]) -> dict[str, str]:
    experiment = store.manifest.experiment
    data = {c["data"] for c in experiment["cells"] if (c["task"], c["variant"]) == (task, variant)}
    return {
        "mode": mode_of(store.manifest),
        "device": str(experiment.get("device", "")),
        "threads": str(experiment.get("threads", "")),
        "data": next(iter(data), ""),
        "result": " ".join(found.rule for found in result_rules(members)),  # the epoch may differ, the rule should not
    }


def shared_seeds(a: Arm, b: Arm) -> list[int]:
    """Return the seeds that both arms plan, ascending."""
    return sorted(set(a.seeds) & set(b.seeds))


def pairable(a: Arm, b: Arm) -> bool:
    """Return whether to compare two arms seed by seed: both plan the same seeds, or share most of them.

    Only the plans decide, never results. If fewer than half are shared, the unpaired test has more power. Seed numbers
    that only count adopted runs cannot be paired.
    """
    if any(arm.store.manifest.numbered for arm in (a, b)):
        return False
    shared = len(shared_seeds(a, b))
    return a.seeds == b.seeds or (shared > 2 and 2 * shared >= max(len(a.seeds), len(b.seeds)))


def folds_of(a: Arm, b: Arm) -> int:
    """Return the number of folds of both arms, 0 for none. Raise StatisticsError if their data are cut differently."""
    if a.folds != b.folds or (a.folds and a.about["data"] != b.about["data"]):
        counts = [f"{arm.directory} has {plural(arm.folds, 'fold') if arm.folds else 'no folds'}" for arm in (a, b)]
        raise StatisticsError(
            f"{' and '.join(counts)}{', of other data' if a.folds == b.folds else ''}: they have different test sets",
            hint="cross-validate both with the same number of folds on the same data",
        )
    return a.folds


def ratio_of(arms: Sequence[Arm], asked: str = "") -> float | None:
    """Return the largest n_test/n_train of arms in which every seed has its own split; None for one shared split.

    Also None if the sizes are not recorded. Raises StatisticsError if `asked` names an answer that needs them.
    """
    split = [arm for arm in arms if arm.folds or "split" in arm.vary]
    known = [arm.ratio for arm in split if arm.ratio is not None]
    if asked and len(known) < len(split):
        raise StatisticsError(
            f"every seed has its own split of the same data, and {asked} is not valid without the sizes of its parts",
            where=next(arm.directory for arm in split if arm.ratio is None),
            hint="compare without it, train on one fixed split, or record examples: {train: N, test: N}",
        )
    return max(known, default=None)


def metric_names(arms: Sequence[Arm]) -> list[str]:
    """Return every metric that any arm reports, in order of first appearance."""
    return list(dict.fromkeys(metric for arm in arms for metric in arm.values))


def declared(stores: Sequence[Store]) -> dict[str, Any]:
    """Return the goals of all directories. Raise StatisticsError if two disagree."""
    found: dict[str, Any] = {}
    for store in stores:
        for name, goal in (store.manifest.config.get("goals") or {}).items():
            if found.setdefault(name, goal) != goal:
                raise StatisticsError(
                    f"{name!r} should be large in one directory and small in another", where=str(store.path),
                    hint="set the same goals in both configs",
                )  # fmt: skip
    return found
