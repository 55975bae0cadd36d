"""Request and Trained: what a rehearsal is asked and what it answers; plain data, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sweep.plan import RunSpec
from sweep.store import Failure, atomic
from sweep.task import Place


@dataclass(frozen=True)
class Request:
    """What to train: a run, how far (None: to its end) and what to look at.

    path: a folder for what the training writes; trace: where every module's digests go, line by line.
    task: "train" once; "audit" to hear what the training code does with randomness, and train again with each of
    `perturb` changed alone; "cost" to time the steps of both modes.
    """

    spec: RunSpec
    place: Place
    path: str
    steps: int | None = None
    trace: str = ""
    task: Literal["train", "audit", "cost"] = "train"
    perturb: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trained:
    """What training showed. where: which process; chain: its digests; steps: optimizer steps, where counted.

    stopped: it was ended after the steps that were asked for. folder: what it wrote.
    found: what else was asked for; marks: when each step was done, in seconds of a clock of its own.
    """

    where: str
    chain: Mapping[str, str]
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    context: Mapping[str, Any]
    seconds: float
    steps: int = 0
    stopped: bool = False
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    folder: str = ""
    found: tuple[Mapping[str, Any], ...] = ()
    marks: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = atomic.strict(asdict(self))
        return plain

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Trained:
        failure = body["failure"]
        return cls(**{
            **body, "failure": Failure(**failure) if failure else None, "notes": tuple(body["notes"]),
            "metrics": {name: float(value) for name, value in body["metrics"].items()},
            "found": tuple(body["found"]),
                "marks": tuple(body["marks"]),
        })  # fmt: skip
