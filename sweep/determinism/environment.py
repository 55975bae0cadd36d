"""The environment that decides the bits of a run, as data, and the verdict on two of them. Pure.

`sweep.determinism.fingerprint` collects the environment. It is hashed and compared here without torch, so that a report
works on a directory from another machine.

The verdict on two runs is the first line that applies:

| found                                                                  | answer               |
|------------------------------------------------------------------------|----------------------|
| the specs differ in the experiment (seed, params, data, code, ...)     | DIFFERENT_EXPERIMENT |
| the specs differ in threads, device or mode                            | NOT_EXPECTED         |
| a field marked NOT_EXPECTED below differs                              | NOT_EXPECTED         |
| a spec id, or a field below, is missing or "unknown" on either side;   | UNKNOWN              |
| a field that is not listed below differs                               |                      |
| a run is in fast mode, or its switches were changed before the end     | MAY_MATCH            |
| a run was a command, whose switches cannot be read back                | MAY_MATCH            |
| hash order was not controlled (`hash_seed` is "random" on either side) | MAY_MATCH            |
| a field marked MAY_MATCH below differs                                 | MAY_MATCH            |
| none of these                                                          | MUST_MATCH           |

`FIELDS` has the answer for two deterministic runs that differ in only one field and would otherwise have to match.
`None` is a value ("does not apply": every `cuda` field of a run on a CPU). "unknown" is not one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sweep.nested import flatten

Field = tuple[str, Any, Any]

# cuBLAS and the interpreter read these once, at their start, so they must be set before the process that trains exists.
ENVIRONMENT_FOR_DETERMINISM: Mapping[str, str] = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONHASHSEED": "0"}

UNDETERMINED = "unknown"  # the value of a field that could not be read
HASH_ORDER_NOT_CONTROLLED = "random"  # the value of `hash_seed` if it was not set


class Answer(StrEnum):
    """The expectation for the bits of two runs."""

    MUST_MATCH = "MUST_MATCH"
    MAY_MATCH = "MAY_MATCH"
    NOT_EXPECTED = "NOT_EXPECTED"
    DIFFERENT_EXPERIMENT = "DIFFERENT_EXPERIMENT"
    UNKNOWN = "UNKNOWN"


FIELDS: Mapping[str, Answer] = {
    "device": Answer.NOT_EXPECTED,  # other kernels
    "threads": Answer.NOT_EXPECTED,  # partial sums are split by thread
    "interop_threads": Answer.MAY_MATCH,  # only programs that fork inside a graph
    "system": Answer.NOT_EXPECTED,  # another build and another maths library
    "machine": Answer.NOT_EXPECTED,  # another instruction set
    "libc": Answer.MAY_MATCH,  # exp, log and the like of scalar code
    "cpu_vendor": Answer.NOT_EXPECTED,  # MKL takes another path on another vendor's processor
    "cpu_features": Answer.NOT_EXPECTED,  # MKL, oneDNN and OpenBLAS choose kernels by them
    "cpu_model": Answer.MAY_MATCH,  # oneDNN blocks by cache size
    "cpu_capability": Answer.NOT_EXPECTED,  # torch's own kernels are chosen by it
    "python": Answer.MAY_MATCH,  # `random` and hashing may change between minor versions
    "hash_seed": Answer.MAY_MATCH,  # order of sets of strings
    "torch": Answer.NOT_EXPECTED,  # other kernels
    "torch_git": Answer.NOT_EXPECTED,  # other kernels
    "torch_build": Answer.NOT_EXPECTED,  # compiler, BLAS and flags of the build
    "numpy": Answer.MAY_MATCH,  # only what a program computes with NumPy
    "numpy_blas": Answer.MAY_MATCH,  # only what a program multiplies with NumPy
    "mkl": Answer.NOT_EXPECTED,  # settings that choose kernels (MKL_CBWR, ...)
    "onednn": Answer.NOT_EXPECTED,  # settings that choose kernels (ONEDNN_MAX_CPU_ISA, ...)
    "openblas": Answer.MAY_MATCH,  # settings that choose NumPy's kernels (OPENBLAS_CORETYPE)
    "openmp": Answer.NOT_EXPECTED,  # settings that give fewer threads or another reduction
    "precision": Answer.NOT_EXPECTED,  # TF32 and bfloat16 in place of float32
    "flush_denormal": Answer.NOT_EXPECTED,  # tiny numbers become zero
    "default_dtype": Answer.NOT_EXPECTED,  # dtype of everything created without one
    "mkldnn_enabled": Answer.NOT_EXPECTED,  # other kernels
    "mkldnn_deterministic": Answer.NOT_EXPECTED,  # other kernels
    "deterministic_algorithms": Answer.NOT_EXPECTED,  # other kernels
    "deterministic_warn_only": Answer.NOT_EXPECTED,  # an operation without such a kernel ran anyway
    "fill_uninitialized_memory": Answer.MAY_MATCH,  # only programs that read memory they never wrote
    "cudnn_enabled": Answer.NOT_EXPECTED,  # other kernels
    "cudnn_deterministic": Answer.NOT_EXPECTED,  # other kernels
    "cudnn_benchmark": Answer.NOT_EXPECTED,  # the kernel that happened to be fastest
    "gpu": Answer.NOT_EXPECTED,  # kernels are chosen by model and number of multiprocessors
    "cuda": Answer.NOT_EXPECTED,  # other libraries
    "cudnn": Answer.NOT_EXPECTED,  # other kernels
    "cuda_libraries": Answer.NOT_EXPECTED,  # cuBLAS can be upgraded without torch
    "cuda_settings": Answer.NOT_EXPECTED,  # workspace, TF32 override, attention and reduced precision
    "driver": Answer.MAY_MATCH,  # compiles kernels that ship as PTX
}


@dataclass(frozen=True)
class Origin:
    """The origin of the bits of one run, from its record.

    spec_id: sha256 of the run's spec, "" if unknown. environment: the numeric fields. deterministic: the requested
    mode. spec: the spec as JSON, if available, to name the fields in which two specs differ, and to
    distinguish another thread count from another experiment.
    """

    spec_id: str
    environment: Mapping[str, Any]
    deterministic: bool
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """An answer and the fields that decided it: (name, value of a, value of b). None also means a missing field."""

    answer: Answer
    fields: tuple[Field, ...] = ()

    def __str__(self) -> str:
        parts = (f"{name}: {short(a)} / {short(b)}" for name, a, b in self.fields)
        return self.answer.value + (f" ({'; '.join(parts)})" if self.fields else "")

    def to_json(self) -> dict[str, Any]:
        return {"answer": self.answer.value, "fields": [list(each) for each in self.fields]}


def environment_id(environment: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of the numeric environment, independent of the order of its fields."""
    return hashlib.sha256(_canonical(dict(environment)).encode("ascii")).hexdigest()


def switches_stood(environment: Mapping[str, Any]) -> bool:
    """Return whether the switches, as read back at the end of training, are those of deterministic mode."""
    return all(environment.get(name) is value for name, value in _switches(environment).items())


def _switches(environment: Mapping[str, Any]) -> Mapping[str, bool]:
    on_cuda = {"cudnn_deterministic": True, "cudnn_benchmark": False} if environment.get("device") == "cuda" else {}
    return {"deterministic_algorithms": True, "deterministic_warn_only": False, **on_cuda}


def verdict(a: Origin, b: Origin) -> Verdict:
    """Return the verdict on two runs by the rules above."""
    found = [*_of_specs(a, b), *_of_promises(a, b), *_of_environments(a.environment, b.environment)]
    for answer in (Answer.DIFFERENT_EXPERIMENT, Answer.NOT_EXPECTED, Answer.UNKNOWN, Answer.MAY_MATCH):
        if fields := {field[0]: field for each, field in found if each is answer}:
            return Verdict(answer, tuple(fields.values()))
    return Verdict(Answer.MUST_MATCH)


def of_environments(a: Origin, b: Origin) -> Verdict:
    """Return the verdict on only the environments and modes of two runs, as if their specs were equal."""
    return verdict(*(replace(each, spec_id="set aside") for each in (a, b)))


def _of_specs(a: Origin, b: Origin) -> Iterator[tuple[Answer, Field]]:
    """Yield the fields in which two specs differ, with the answer for each."""
    if a.deterministic != b.deterministic:
        yield Answer.NOT_EXPECTED, ("deterministic", a.deterministic, b.deterministic)
    ids = ("spec_id", a.spec_id or None, b.spec_id or None)
    if not a.spec_id or not b.spec_id:
        yield Answer.UNKNOWN, ids
        return
    if a.spec_id == b.spec_id:
        return
    left, right = dict(flatten(a.spec)), dict(flatten(b.spec))
    names = [name for name in sorted({*left, *right}) if _canonical(left.get(name)) != _canonical(right.get(name))]
    if not a.spec or not b.spec or not names:
        yield Answer.DIFFERENT_EXPERIMENT, ids
        return
    for name in names:
        values = left.get(name), right.get(name)
        if name in ("threads", "device", "deterministic"):
            yield Answer.NOT_EXPECTED, (name, *values)
        elif name == "data" and "" in values:  # unidentified data, which may be the same
            yield Answer.UNKNOWN, (name, *values)
        elif name != "repeat" or "folds" in left:  # without folds it only counts the copies
            yield Answer.DIFFERENT_EXPERIMENT, (name, *values)


def _of_promises(a: Origin, b: Origin) -> Iterator[tuple[Answer, Field]]:
    """Yield the reasons why two runs need not match even if all fields are equal."""
    if not (a.deterministic and b.deterministic):
        yield Answer.MAY_MATCH, ("deterministic", a.deterministic, b.deterministic)
    elif not (switches_stood(a.environment) and switches_stood(b.environment)):
        for name in _switches(a.environment):
            yield Answer.MAY_MATCH, (name, a.environment.get(name), b.environment.get(name))
    kinds = [each.spec.get("target", {}).get("kind") for each in (a, b)]
    if "command" in kinds:
        yield Answer.MAY_MATCH, ("target.kind", *kinds)
    hashing = a.environment.get("hash_seed"), b.environment.get("hash_seed")
    if hashing == (HASH_ORDER_NOT_CONTROLLED, HASH_ORDER_NOT_CONTROLLED):
        yield Answer.MAY_MATCH, ("hash_seed", *hashing)


def _of_environments(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[Answer, Field]]:
    """Yield the fields that differ, and those that are unknown on either side."""
    for name in sorted({*FIELDS, *a, *b}):
        left, right = a.get(name), b.get(name)
        missing = name not in a or name not in b
        if name in FIELDS and (missing or UNDETERMINED in (left, right)):
            yield Answer.UNKNOWN, (name, left, right)
        elif missing or _canonical(left) != _canonical(right):
            yield FIELDS.get(name, Answer.UNKNOWN), (name, left, right)


def _canonical(value: Any) -> str:
    # Not `==`, for which True is 1. Sorted, because the order of a mapping does not matter.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def short(value: Any) -> str:
    """Return the value of a field, shortened if it is long."""
    text = value if isinstance(value, str) else _canonical(value)
    return text if len(text) <= 40 else text[:37] + "..."
