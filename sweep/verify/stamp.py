"""The stamp in sweep.json: the evidence for or against the claim that a sweep is bit-exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.store.owner import now
from sweep.verify.prove import Proof
from sweep.verify.reproduce import Reproduction
from sweep.words import plural

STEPS, WHOLE = "steps", "whole"  # the extent of the trainings that were compared
Stamp = Mapping[str, Any]


def stamp_of(proof: Proof, *, how: str, runs: int = 1) -> dict[str, Any]:
    """Return the stamp of a proof. runs: number of planned runs.

    status: "proven" if whole trainings were compared, "sampled" if some steps were, "differs" or "not checked". extent:
    how much of them was compared. The other fields describe how and on what this was found.
    """
    first = proof.trained[0]
    passed = "sampled" if first.stopped else "proven"
    return {
        "status": {"proven": passed, "differs": "differs"}.get(proof.status, "not checked"),
        "summary": _summary(proof, how, runs),
        "how": how,
        "extent": STEPS if first.stopped else WHOLE,
        "key": proof.spec.key,
        "seed": proof.spec.seed,
        "processes": len(proof.trained),
        "steps": first.steps,
        "digests": dict(list(first.chain.items())[-3:]),
        "difference": str(proof.difference) if proof.difference else "",
        "culprit": str(proof.culprit) if proof.culprit else "",
        "environment": dict(first.environment),
    }


def again(stamp: Stamp, made: Reproduction) -> dict[str, Any]:
    """Return the stamp after a whole run was trained again and compared with its record."""
    where = f"all of {made.key} was trained again in another process"
    if made.equal:
        said = f"{where}: {made.compared} digests are equal, including evaluation and predictions"
        summary, status, difference = f"proven ({said}; {stamp['summary']})", "proven", ""
    else:
        difference = str(made.difference or f"its metrics ({made.distance})")
        summary, status = f"DIFFERS ({where}; first at {difference})", "differs"
    return {
        **stamp, "status": status, "summary": summary, "how": "repeat", "extent": WHOLE, "key": made.key,
        "seed": made.seed, "difference": difference,
    }  # fmt: skip


def only_sampled(stamp: Stamp, why: str) -> dict[str, Any]:
    """Return a stamp lowered to "sampled", with the reason."""
    return {**stamp, "status": "sampled", "summary": f"sampled ({why}; {stamp['summary']})"}


def unchecked(why: str, *, how: str) -> dict[str, Any]:
    """Return the stamp of a sweep that could not be checked, with the reason."""
    return {"status": "not checked", "summary": f"not checked ({why})", "how": how}


def after(old: Stamp, new: Stamp) -> dict[str, Any]:
    """Return the stamp to store, with its time if it is new.

    A difference stays until a check of the same run, to the same extent, has found none. Later results are in `later`.
    """
    far = new.get("extent") == WHOLE or old.get("extent", WHOLE if old.get("how") == "verify" else STEPS) == STEPS
    passed = new["status"] == "proven" or (new["status"] == "sampled" and far)
    same = old.get("key") in (None, new.get("key"))
    if old.get("status") != "differs" or (far and ((passed and same) or new["status"] == "differs")):
        return {**new, "time": now()}
    return {**old, "later": new["summary"]}


def outlasts(old: Stamp, new: Stamp) -> bool:
    """Return whether a stamp stays after a check that passed: a proof of a whole run is more than one of some steps."""
    return (old.get("status"), old.get("extent")) == ("proven", WHOLE) and new.get("status") == "sampled"


def _summary(proof: Proof, how: str, runs: int) -> str:
    by = f"{how} of {proof.spec.key}: {proof.evidence}"
    filled = {each.environment.get("fill_uninitialized_memory") for each in proof.trained}
    fill = "on" if False not in filled else "off, same bits if on" if True in filled else "off"
    first = proof.trained[0]
    if proof.status == "proven" and first.stopped:
        steps = f"first {plural(first.steps, 'step')} of 1 of {plural(runs, 'run')}"
        return f"sampled ({steps}; {by}; memory fill {fill})"
    if proof.status == "proven":
        return f"proven ({by}; memory fill {fill})"
    if proof.status == "differs":
        where = f"; {proof.culprit}" if proof.culprit else ""
        return f"DIFFERS ({by}; first at {proof.difference}{where})"
    return f"not checked ({how}: {proof})"
