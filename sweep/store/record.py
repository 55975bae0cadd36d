"""record.json: what became of one run. Written last and created once; complete if its checksum holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sweep.determinism.environment import Origin, Verdict, verdict
from sweep.plan import RunSpec, content_id
from sweep.store import atomic, shape
from sweep.store.names import is_folder, is_nonce

FORMAT = 1
LIMIT = 64 << 20  # bytes: a larger file is no record of ours, and is not read into memory

Json = Any

TARGET = {"kind": str, "reference": str, "argv": [str], "digest": str}
SHAPE = {
    "format": int, "checksum": str, "spec_id": str, "status": str, "attempt": str, "attempts?": int, "seconds?": float,
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
}  # fmt: skip

IN_WORDS = {"returned": "no usable metrics"}  # kinds that say little to who has not read what they stand for


@dataclass(frozen=True)
class Failure:
    """Why a run has no result: an outcome, not an accident of the machine.

    kind: "raised" (the user's code), "diverged" (a metric is not finite), "killed" (it killed its worker each
    time), "timeout", "returned" (what it gave back is no set of metrics), "out of memory", "nondeterministic".
    """

    kind: str
    message: str
    phase: str = "train"
    exception: str = ""
    where: str = ""  # file:line of the innermost frame of the user's code

    def __str__(self) -> str:
        what = f"{self.exception}: {self.message}" if self.exception else self.message
        return f"{IN_WORDS.get(self.kind, self.kind)}: {what}" + (f" ({self.where})" if self.where else "")


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
    collected: Mapping[str, Json] = field(default_factory=dict)  # of a command: how its metrics were read, and notes
    # Beside its own folder: what was written meanwhile, and what changed of that which it was planned with.
    files: Mapping[str, Json] = field(default_factory=dict)


def verdict_of(a: Record, b: Record) -> Verdict:
    """What the environments of two records promise each other, whatever else was asked of the runs."""
    return verdict(_origin(a), _origin(b))


def origin_of(record: Record) -> Origin:
    """Return where the bits of a recorded run came from."""
    return Origin(record.spec_id, record.environment, bool(record.spec["deterministic"]), record.spec)


def _origin(record: Record) -> Origin:
    # Equal for both: other seeds and variants are other experiments, in what may be the same environment.
    spec = {"target": {"kind": record.spec["target"]["kind"]}}
    return Origin("set aside", record.environment, bool(record.spec["deterministic"]), spec)


class Damaged(ValueError):
    """These bytes are no whole record; the message says what is wrong with them."""


def _sound(files: Json) -> bool:
    """Return whether a record's `files` are of the form that `sweep.written` and `sweep.target.inputs` give them."""
    written, changed = files.get("written", {}), files.get("changed", [])
    return all(isinstance(name, str) for name in changed) and all(
        isinstance(name, str) and len(span) == 2 and all(type(each) is int for each in span)
        for name, span in written.items()
    )


def encode(record: Record) -> bytes:
    """The record as strict JSON with its own checksum."""
    body = atomic.strict({"format": FORMAT, **asdict(record)})
    return (atomic.dumps({**body, "checksum": content_id(body)}) + "\n").encode()


def decode(data: bytes) -> Record:
    """The record in `data`.

    Raises: Damaged for anything but a whole, unaltered record of this format; never another exception.
    """
    try:
        body = atomic.loads(data)
        shape.require(body, SHAPE)
        checksum = body.pop("checksum")
        if content_id(body) != checksum:
            raise Damaged("its checksum does not hold")
        if body.pop("format") > FORMAT:
            raise Damaged("it was written by a newer version of sweep: upgrade to read it")
        if content_id(body["spec"]) != body["spec_id"]:
            raise Damaged("its spec does not match its identity")
        if body["status"] not in ("ok", "failed") or (body["status"] == "failed") != bool(body["failure"]):
            raise Damaged(f"its status is {body['status']!r}")
        spec = RunSpec.from_json(body["spec"])
        if not is_nonce(body["attempt"]):
            raise Damaged("its attempt has no name of ours")
        if not (is_folder(spec.task) and is_folder(spec.variant)):
            raise Damaged("its task or variant has no name of ours")
        if bad := [name for name in body["artifacts"] if Path(name).name != name or name.startswith(".")]:
            raise Damaged(f"it names a file outside its attempt ({bad[0][:60]!r})")
        known = {f.name for f in fields(Record)}
        body = {key: value for key, value in body.items() if key in known}
        body["failure"] = Failure(**body["failure"]) if body["failure"] else None
        body["metrics"] = {str(key): float(value) for key, value in body["metrics"].items()}
        body["artifacts"] = {str(key): Artifact(**value) for key, value in body["artifacts"].items()}
        body["notes"] = tuple(body["notes"])
        if not _sound(body.get("files", {})):
            raise Damaged("what it says of files beside it is not sound")
        return Record(**body)
    except Damaged:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Damaged(f"it does not parse ({type(error).__name__}: {error})") from error
