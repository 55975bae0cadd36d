"""The runs of a directory that make one ensemble, and their predictions. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from sweep.ensemble.members import Members, refuse_missing, stack
from sweep.errors import EnsembleError, SweepError
from sweep.seeds import natural
from sweep.store import Member, Store, by_seed
from sweep.store.names import PREDICTIONS
from sweep.variants import variants_of

BUDGET = 256 << 20  # bytes of matched predictions that are kept per store
# Splits for training, selection and the test; any other split of the members is a further test set.
OWN_SPLITS = frozenset({"train", "val", "test"})

_kept: WeakKeyDictionary[Store, dict[tuple[Any, ...], Members | EnsembleError]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Chosen:
    """The finished runs of one variant and task, and (label, reason) of planned ones that are not finished.

    called: the name of the variant in reports. options: those that choose it and the task on a command line.
    """

    variant: str
    task: str
    runs: tuple[tuple[str, Member], ...]
    missing: tuple[tuple[str, str], ...]
    called: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unused:
    """A split that is not used: members lack it, or they do not match (refused)."""

    split: str
    lacking: tuple[str, ...]
    refused: SweepError | None = None


@dataclass(frozen=True)
class Gathered:
    """Predictions for the scored split, and for val and further test sets if all members have them."""

    members: Members
    val: Members | None
    extra: dict[str, Members]
    unused: tuple[Unused, ...]


def choose(
    store: Store,
    *,
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
) -> Chosen:
    """Return the runs of one variant and task, one per seed: its first repeat, or one that represents its folds.

    variant, task: needed if the directory has several; a part of the name is enough. members: seeds or
    labels (`seed42`) to choose.
    Raises EnsembleError, which lists the choices.
    """
    runs = by_seed(store.scan())
    variants = variants_of((one.variant for one in runs), store.manifest)
    called = {folder: one.label or folder for folder, one in variants.items()}
    asked = next((folder for folder, one in variants.items() if variant == one.letter), variant)
    variant = _one("variant", asked, called, store)
    tasks = {one.task: one.task for one in runs}
    task = _one("task", task, tasks, store)
    several = [("--variant", called, variant), ("--task", tasks, task)]
    options = [word for option, there, name in several if len(there) > 1 for word in (option, there[name])]
    labelled = {f"seed{one.seed}": one for one in runs if (one.variant, one.task) == (variant, task)}
    if members is not None:
        wanted = [f"seed{name}" if str(name).isdecimal() else str(name) for name in members]
        unknown = [name for name in wanted if name not in labelled]
        if unknown:
            raise EnsembleError(
                f"no member {unknown[0]!r} is planned here",
                where=str(store.path),
                hint=f"choose among {', '.join(sorted(labelled, key=natural)[:10])}",
            )
        labelled = {name: labelled[name] for name in wanted}
    labelled = dict(sorted(labelled.items(), key=lambda pair: natural(pair[0])))
    finished = tuple((label, one) for label, one in labelled.items() if one.status == "ok")
    missing = tuple((label, reason(one)) for label, one in labelled.items() if one.status != "ok")
    return Chosen(variant, task, finished, missing, called[variant], tuple(options))


def reason(member: Member) -> str:
    """Return a short reason why a planned run is not a member."""
    failure = member.record.failure if member.record is not None else None
    return f"failed: {failure.kind}" if failure is not None else member.status


def having(store: Store, chosen: Chosen, file: str, otherwise: str) -> Chosen:
    """Return the runs that saved a file; the others are missing, for the reason `otherwise`."""
    runs = tuple((label, one) for label, one in chosen.runs if store.has(one, file))
    lacking = [(label, otherwise) for label, one in chosen.runs if not store.has(one, file)]
    missing = tuple(sorted([*chosen.missing, *lacking], key=lambda pair: natural(pair[0])))
    return replace(chosen, runs=runs, missing=missing)


def matched(store: Store, chosen: Chosen, split: str = "test", allow_missing: bool = False) -> Members:
    """Return the matched predictions of chosen runs for one split; `stack` lists what is refused."""
    found = having(store, chosen, PREDICTIONS.format(split=split), f"saved no predictions for {split}")
    if not found.runs:
        known = sorted({name for _, one in chosen.runs for name in store.splits(one)})
        raise EnsembleError(
            f"no finished run has predictions for {split!r}",
            where=str(store.path),
            hint=f"choose one with --split: {', '.join(known)}"
            if known
            else "finish the sweep, and call run.save_predictions in your training code",
        )
    refuse_missing(found.missing, f"no predictions for {split}", allow_missing)
    return replace(read(store, found.runs, split), missing=found.missing)


def read(store: Store, runs: Sequence[tuple[str, Member]], split: str) -> Members:
    """Return the matched predictions of runs that all have them.

    Several parts of a report read the same predictions, so the latest are kept, up to BUDGET bytes, by the content of
    their files.
    """
    name = PREDICTIONS.format(split=split)
    files = [(label, file) for label, one in runs for file in one.artifacts(name)]
    kept, key = _kept.setdefault(store, {}), (split, *((label, file.sha256) for label, file in files))
    found = kept.pop(key, None)
    if found is None:
        made = [(label, store.predictions(one, split)) for label, one in runs]
        try:
            found = stack([(label, one) for label, one in made if one is not None], split=split)
        except EnsembleError as refused:  # also kept, for the next part that reads them
            found = refused.with_traceback(None)
    kept[key] = found
    while len(kept) > 1 and sum(getattr(one, "size", 0) for one in kept.values()) > BUDGET:
        del kept[next(iter(kept))]
    if isinstance(found, EnsembleError):
        raise copy(found)  # the traceback of the kept one would keep the predictions in memory
    return found


def gather_all(store: Store, chosen: Chosen, split: str = "test", *, allow_missing: bool = False) -> Gathered:
    """Read what the members predicted, each file once: for `split`, for val, and for every further test set."""
    members = matched(store, chosen, split, allow_missing)
    runs = tuple((label, one) for label, one in chosen.runs if label in members.labels)
    same = replace(chosen, runs=runs, missing=())
    has = {label: set(store.splits(one)) for label, one in runs}
    found: dict[str, Members] = {}
    unused = []
    for name in sorted(set().union(*has.values()) - (OWN_SPLITS - {"val"}) - {split}):
        lacking = tuple(label for label, splits in has.items() if name not in splits)
        try:
            if lacking:
                unused.append(Unused(name, lacking))
            else:
                found[name] = matched(store, same, name)
        except SweepError as refused:
            if name == "val":
                raise
            unused.append(Unused(name, (), refused))
    return Gathered(members, found.pop("val", None), found, tuple(unused))


def _one(kind: str, asked: str | None, there: Mapping[str, str], store: Store) -> str:
    """Return the only folder that has this name, this name in reports, or this part of either."""
    if asked is None and len(there) == 1:
        return next(iter(there))
    for close in (
        [folder for folder, name in there.items() if asked in (folder, name)],
        [folder for folder, name in there.items() if asked and (asked in folder or asked in name)],
    ):
        if len(close) == 1:
            return close[0]
    what = f"there are {len(there)} {kind}s" if asked is None else f"no {kind} {asked!r} is here"
    raise EnsembleError(
        f"{what}, but an ensemble is built from one",
        where=str(store.path),
        hint=f"choose with --{kind}: {', '.join(repr(name) for name in list(there.values())[:10])}",
    )
