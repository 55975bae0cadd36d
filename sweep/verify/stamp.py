"""Stamp: the evidence for (or against) the claim that a sweep is bit-exact, as kept in its sweep.json."""

from __future__ import annotations

from typing import Any

from sweep.store.owner import now
from sweep.verify.chain import epochs
from sweep.verify.prove import Proof


def stamp_of(proof: Proof, *, how: str) -> dict[str, Any]:
    """status: "proven", "differs" or "not checked"; the rest says how it was found, and on what."""
    first = proof.trained[0]
    digests = dict(list(first.chain.items())[-3:])
    fill = "off, the same bits with it" if proof.unfilled and proof.status == "proven" else "on"
    return {
        "status": {"proven": "proven", "differs": "differs"}.get(proof.status, "not checked"),
        "summary": _summary(proof, how, fill),
        "how": how,
        "key": proof.spec.key,
        "seed": proof.spec.seed,
        "processes": len(proof.trained),
        "steps": first.steps,
        "epochs": epochs(first.chain),
        "links": len(first.chain),
        "digests": digests,
        "torch": first.environment.get("torch", ""),
        "threads": first.environment.get("threads", proof.spec.threads),
        "device": proof.spec.device,
        "gpu": first.environment.get("gpu"),
        "fill_memory": not fill.startswith("off"),
        "difference": str(proof.difference) if proof.difference else "",
        "culprit": str(proof.culprit) if proof.culprit else "",
        "environment": dict(first.environment),
        "time": now(),
    }


def _summary(proof: Proof, how: str, fill: str) -> str:
    by = f"{how} of {proof.spec.key}: {proof.evidence}"
    if proof.status == "proven":
        return f"proven ({by}; memory fill {fill})"
    if proof.status == "differs":
        where = f"; {proof.culprit}" if proof.culprit else ""
        return f"DIFFERS ({by}; first at {proof.difference}{where})"
    return f"not checked ({how}: {proof})"


def unchecked(why: str, *, how: str) -> dict[str, Any]:
    """The stamp of a sweep whose proof could not be made, with the reason."""
    return {"status": "not checked", "summary": f"not checked ({why})", "how": how, "fill_memory": True, "time": now()}
