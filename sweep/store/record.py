"""record.json: the outcome of one run. It is written last, created once, and complete if its checksum is right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweep.determinism.environment import Origin
from sweep.plan import RunSpec, content_id
from sweep.store import shape
from sweep.store.names import is_folder, is_nonce

LIMIT = 64 << 20  # bytes: a larger file is not one of ours and is not read into memory

Json = Any

TARGET = {"kind": str, "reference": str, "argv": [str], "digest": str}
SHAPE = {
    "spec_id": str, "status": str, "attempt": str, "attempts?": int, "seconds?": float,
    "spec": {
        "target": TARGET, "params": {"*": Any}, "variant": str, "task": str, "seed": int, "streams": {"*": int},
        "repeat": int, "deterministic": bool, "device": str, "threads": int, "data": str,
    },
    "failure": (None, {"kind": str, "message": str, "*": str}), "metrics": {"*": (float, "nan", "inf", "-inf")},
    "result?": {"rule?": str, "epoch?": (None, int), "examples?": (None, int, {"*": int})}, "digests?": {"*": str},
    "environment?": {"*": Any}, "environment_id?": str, "artifacts": {"*": {"sha256": str, "bytes": int}},
    "context?": {
        "seconds_before?": float, "process?": (None, int, str), "first_in_process?": bool, "resumed_at?": (None, int),
    },
    "notes": [str], "collected?": {"id?": str, "history?": str, "notes?": [str], "words?": str},
    "files?": {"written?": {"*": [int]}, "changed?": [str]},
}  # fmt: skip

IN_WORDS = {"returned": "no usable metrics"}  # kinds whose name needs an explanation


@dataclass(frozen=True)
class Failure:
    """The reason why a run has no result, unless that was an accident of the machine.

    kind: "raised" (by the user's code), "diverged" (a metric is not finite), "killed" (it killed its worker each
    time), "timeout", "returned" (it returned no metrics), "out of memory", "nondeterministic".
    """

    kind: str
    message: str
    phase: str = "train"
    exception: str = ""
    where: str = ""  # file:line of the innermost frame in the user's code

    def __str__(self) -> str:
        what = f"{self.exception}: {self.message}" if self.exception else self.message
        return f"{IN_WORDS.get(self.kind, self.kind)}: {what}" + (f" ({self.where})" if self.where else "")


def diverged(metrics: Mapping[str, float], when: str = "") -> Failure | None:
    """Return the failure of a run with a metric that is not finite, or None. when: the moment, such as "epoch 3"."""
    bad = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
    return None if bad is None else Failure("diverged", f"{bad} is {metrics[bad]}" + (f" at {when}" if when else ""))


@dataclass(frozen=True)
class Artifact:
    """One file of an attempt, by content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Record:
    """One run's outcome, as stored."""

    spec: Mapping[str, Json]
    spec_id: str
    status: Literal["ok", "failed"]
    attempt: str
    attempts: int = 1
    failure: Failure | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Json] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Json] = field(default_factory=dict)
    environment_id: str = ""
    context: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    collected: Mapping[str, Json] = field(default_factory=dict)  # for a command: how its metrics were read, and notes
    # Outside its folder: the files that were written while it ran, and the planned files that changed.
    files: Mapping[str, Json] = field(default_factory=dict)


def origin_of(record: Record) -> Origin:
    """Return the origin of the bits of a recorded run."""
    return Origin(record.spec_id, record.environment, bool(record.spec["deterministic"]), record.spec)


class Damaged(ValueError):
    """Bytes that are not a complete record. The message gives the reason."""


def decode(data: bytes) -> Record:
    """Return the record in `data`.

    Raises: only Damaged, for anything but a complete, unaltered record of this format.
    """
    try:
        body = shape.unseal(data, Record)
        shape.require(body, SHAPE)
        if content_id(body["spec"]) != body["spec_id"]:
            raise ValueError("its spec does not match its identity")
        if body["status"] not in ("ok", "failed") or (body["status"] == "failed") != bool(body["failure"]):
            raise ValueError(f"its status is {body['status']!r}")
        spec = RunSpec.from_json(body["spec"])
        if not is_nonce(body["attempt"]):
            raise ValueError("the name of its attempt is not one that sweep gives")
        if not (is_folder(spec.task) and is_folder(spec.variant)):
            raise ValueError("the name of its task or variant is not one that sweep gives")
        if bad := [name for name in body["artifacts"] if Path(name).name != name or name.startswith(".")]:
            raise ValueError(f"it names a file outside its attempt ({bad[0][:60]!r})")
        body["failure"] = Failure(**body["failure"]) if body["failure"] else None
        body["metrics"] = {str(key): float(value) for key, value in body["metrics"].items()}
        body["artifacts"] = {str(key): Artifact(**value) for key, value in body["artifacts"].items()}
        body["notes"] = tuple(body["notes"])
        if any(len(span) != 2 for span in body.get("files", {}).get("written", {}).values()):
            raise ValueError("the time of a write is not a pair of numbers")
        return Record(**body)
    except ValueError as error:
        raise Damaged(str(error)) from error
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Damaged(f"it cannot be parsed ({type(error).__name__}: {error})") from error
