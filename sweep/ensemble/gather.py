"""Which runs of a directory make one ensemble, and their predictions for a split. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.ensemble.members import Members, natural, stack
from sweep.errors import EnsembleError
from sweep.store import Member, Predictions, Store


@dataclass(frozen=True)
class Chosen:
    """The finished runs of one variant and task, and (label, reason) of planned ones that are not finished."""

    runs: tuple[tuple[str, Member], ...]
    missing: tuple[tuple[str, str], ...]


def choose(
    store: Store,
    *,
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
) -> Chosen:
    """The runs of one variant and task, one a seed (repeats repeat a member, they do not add one).

    variant, task: needed when the directory has several; a part of the name is enough. members: seeds or
    labels (`seed42`) to choose.
    Raises EnsembleError naming what there is.
    """
    runs = [one for one in store.scan() if one.repeat == 0]
    variant = _one("variant", variant, sorted({one.variant for one in runs}), store)
    task = _one("task", task, sorted({one.task for one in runs}), store)
    labelled = {f"seed{one.seed}": one for one in runs if (one.variant, one.task) == (variant, task)}
    if members is not None:
        wanted = [f"seed{name}" if str(name).isdecimal() else str(name) for name in members]
        unknown = [name for name in wanted if name not in labelled]
        if unknown:
            raise EnsembleError(
                f"no member {unknown[0]!r} is planned here",
                where=str(store.path),
                hint=f"there are {', '.join(sorted(labelled, key=natural)[:10])}",
            )
        labelled = {name: labelled[name] for name in wanted}
    labelled = dict(sorted(labelled.items(), key=lambda pair: natural(pair[0])))
    runs_ok = tuple((label, one) for label, one in labelled.items() if one.status == "ok")
    missing = tuple((label, reason(one)) for label, one in labelled.items() if one.status != "ok")
    return Chosen(runs_ok, missing)


def reason(member: Member) -> str:
    """Why a planned run is no member, in few words."""
    failure = member.record.failure if member.record is not None else None
    return f"failed: {failure.kind}" if failure is not None else member.status


def gather(
    store: Store,
    split: str = "test",
    *,
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
    allow_missing: bool = False,
) -> Members:
    """The matched predictions of a run directory for one split; see `choose` and `stack` for what is refused."""
    chosen = choose(store, variant=variant, task=task, members=members)
    missing = list(chosen.missing)
    found: list[tuple[str, Predictions]] = []
    for label, one in chosen.runs:
        predictions = store.predictions(one, split)
        if predictions is None:
            missing.append((label, f"saved no predictions for {split}"))
        else:
            found.append((label, predictions))
    if not found:
        known = sorted({name for _, one in chosen.runs for name in store.splits(one)})
        raise EnsembleError(
            f"no finished run has predictions for {split!r}",
            where=str(store.path),
            hint=f"there are {', '.join(known)}: choose with --split"
            if known
            else "finish the sweep, and call run.save_predictions in your training code",
        )
    return stack(found, split=split, missing=missing, allow_missing=allow_missing)


def _one(kind: str, asked: str | None, there: list[str], store: Store) -> str:
    if asked is None and len(there) == 1:
        return there[0]
    if asked is not None and asked not in there and len(close := [name for name in there if asked in name]) == 1:
        return close[0]
    if asked is None or asked not in there:
        what = f"there are {len(there)} {kind}s" if asked is None else f"no {kind} {asked!r} is here"
        raise EnsembleError(
            f"{what}, and an ensemble is built of one",
            where=str(store.path),
            hint=f"choose with --{kind}: {', '.join(repr(name) for name in there[:10])}",
        )
    return asked
