"""What decides the bits of a training run, as data, and what two such environments promise. Pure.

`sweep.determinism.fingerprint` fills the environment in; here it is hashed and judged, so that a report can speak about
a directory made on another machine without torch.

The verdict on two runs goes by the first line that applies:

| found                                                                  | answer               |
|------------------------------------------------------------------------|----------------------|
| the specs differ in what was asked (seed, params, data, code, ...)     | DIFFERENT_EXPERIMENT |
| the specs differ in threads, device or mode                            | NOT_EXPECTED         |
| a field marked NOT_EXPECTED below differs                              | NOT_EXPECTED         |
| a spec id, or a field below, is missing or "unknown" on either side;   | UNKNOWN              |
| a field that is not listed below differs                               |                      |
| a run is in fast mode, or its switches no longer stood at the end      | MAY_MATCH            |
| a run was a command: its program's switches are not ours to read back  | MAY_MATCH            |
| hash order was not controlled (`hash_seed` is "random" on either side) | MAY_MATCH            |
| a field marked MAY_MATCH below differs                                 | MAY_MATCH            |
| none of these                                                          | MUST_MATCH           |

`FIELDS` says what a difference in one field alone does to two deterministic runs that would otherwise have to match.
`None` is a value ("does not apply": every `cuda` field of a run on a CPU); "unknown" is not one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

ENVIRONMENT_FOR_DETERMINISM: Mapping[str, str] = MappingProxyType(
    {
        # cuBLAS reads its workspace and the interpreter its hash seed once, at their start: a launcher must
        # set both before the process that trains exists.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONHASHSEED": "0",
    }
)

UNDETERMINED = "unknown"  # the value of a field that could not be read
HASH_ORDER_NOT_CONTROLLED = "random"  # the value of `hash_seed` then


class Answer(StrEnum):
    """What may be expected of two runs' bits."""

    MUST_MATCH = "MUST_MATCH"
    MAY_MATCH = "MAY_MATCH"
    NOT_EXPECTED = "NOT_EXPECTED"
    DIFFERENT_EXPERIMENT = "DIFFERENT_EXPERIMENT"
    UNKNOWN = "UNKNOWN"


FIELDS: Mapping[str, Answer] = MappingProxyType(
    {
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
        "deterministic_warn_only": Answer.NOT_EXPECTED,  # an operation without such a kernel ran all the same
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
)

# In a spec: how to compute, against what to compute. `repeat` only counts the copies.
_HOW = frozenset({"threads", "device", "deterministic"})
_COUNTS_COPIES = frozenset({"repeat"})


@dataclass(frozen=True)
class Origin:
    """Where one run's bits came from: what a record says of it.

    spec_id: sha256 of the run's spec, "" when unknown; environment: the numeric fields; deterministic: the
    mode asked for; spec: the spec as JSON, if at hand: it names the fields in which two specs differ, and
    tells a changed thread count from another experiment.
    """

    spec_id: str
    environment: Mapping[str, Any]
    deterministic: bool
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """`fields` are what decided, as (name, value of a, value of b); None also stands for a missing field."""

    answer: Answer
    fields: tuple[tuple[str, Any, Any], ...] = ()

    def __str__(self) -> str:
        parts = (f"{name}: {_short(a)} / {_short(b)}" for name, a, b in self.fields)
        return self.answer.value + (f" ({'; '.join(parts)})" if self.fields else "")

    def to_json(self) -> dict[str, Any]:
        return {"answer": self.answer.value, "fields": [list(each) for each in self.fields]}


def environment_id(environment: Mapping[str, Any]) -> str:
    """sha256 (hex) of the numeric environment's canonical JSON; independent of the order of its fields."""
    return hashlib.sha256(_canonical(dict(environment)).encode("ascii")).hexdigest()


def switches_stood(environment: Mapping[str, Any]) -> bool:
    """Return whether the switches, as read back at the end of training, are those of deterministic mode."""
    return all(environment.get(name) is value for name, value in _switches(environment).items())


def _switches(environment: Mapping[str, Any]) -> Mapping[str, bool]:
    on_cuda = {"cudnn_deterministic": True, "cudnn_benchmark": False} if environment.get("device") == "cuda" else {}
    return {"deterministic_algorithms": True, "deterministic_warn_only": False, **on_cuda}


def verdict(a: Origin, b: Origin) -> Verdict:
    """What may be expected of the bits of two runs, and the fields that decided, by the rules above."""
    asked, how, unknown = _compare_specs(a, b)
    if asked:
        return Verdict(Answer.DIFFERENT_EXPERIMENT, asked)

    decides = {name: (name, left, right) for name, left, right in how}
    some = list(_not_promised(a, b))
    for name in sorted({*FIELDS, *a.environment, *b.environment}):
        left, right = a.environment.get(name), b.environment.get(name)
        missing = name not in a.environment or name not in b.environment
        if name in FIELDS and (missing or UNDETERMINED in (left, right)):
            unknown += ((name, left, right),)
        elif missing or _canonical(left) != _canonical(right):
            match FIELDS.get(name):
                case Answer.NOT_EXPECTED:
                    decides[name] = (name, left, right)
                case Answer.MAY_MATCH:
                    some.append((name, left, right))
                case _:
                    unknown += ((name, left, right),)

    if decides:
        return Verdict(Answer.NOT_EXPECTED, tuple(decides.values()))
    if unknown:
        return Verdict(Answer.UNKNOWN, unknown)
    return Verdict(Answer.MAY_MATCH, tuple(some)) if some else Verdict(Answer.MUST_MATCH)


Fields = tuple[tuple[str, Any, Any], ...]


def _compare_specs(a: Origin, b: Origin) -> tuple[Fields, Fields, Fields]:
    """What was asked differently, what was to be computed in another way, and what cannot be told."""
    mode: Fields = ()
    if a.deterministic != b.deterministic:
        mode = (("deterministic", a.deterministic, b.deterministic),)
    ids = (("spec_id", a.spec_id or None, b.spec_id or None),)
    if not a.spec_id or not b.spec_id:
        return (), mode, ids
    if a.spec_id == b.spec_id:
        return (), mode, ()
    left, right = _flat(a.spec), _flat(b.spec)
    differ = [
        (name, left.get(name), right.get(name))
        for name in sorted({*left, *right})
        if _canonical(left.get(name)) != _canonical(right.get(name))
    ]
    if not a.spec or not b.spec or not differ:
        return ids, (), ()
    # "" is data that could not be identified: perhaps the same.
    unknown = tuple(each for each in differ if each[0] == "data" and "" in each[1:])
    how = tuple(each for each in differ if each[0] in _HOW)
    skip = {"data"} if unknown else set()
    asked = tuple(each for each in differ if each[0] not in _HOW | _COUNTS_COPIES | skip)
    return asked, how or mode, unknown


def _not_promised(a: Origin, b: Origin) -> Fields:
    """Why two runs need not match even where all fields are equal."""
    found: list[tuple[str, Any, Any]] = []
    if not (a.deterministic and b.deterministic):
        found.append(("deterministic", a.deterministic, b.deterministic))
    elif not (switches_stood(a.environment) and switches_stood(b.environment)):
        found += [(name, a.environment.get(name), b.environment.get(name)) for name in _switches(a.environment)]
    if "command" in (_kind(a), _kind(b)):
        found.append(("target.kind", _kind(a), _kind(b)))
    hashing = a.environment.get("hash_seed"), b.environment.get("hash_seed")
    if hashing == (HASH_ORDER_NOT_CONTROLLED, HASH_ORDER_NOT_CONTROLLED):
        found.append(("hash_seed", *hashing))
    return tuple(found)


def _kind(origin: Origin) -> str | None:
    kind: str | None = origin.spec.get("target", {}).get("kind")
    return kind


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"params": {"lr": 1}} -> {"params.lr": 1}"""
    flat: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            flat.update(_flat(each, f"{prefix}{name}."))
        else:
            flat[prefix + name] = each
    return flat


def _canonical(value: Any) -> str:
    # Not `==`, for which True is 1; sorted, for the order of a mapping says nothing.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else _canonical(value)
    return text if len(text) <= 40 else text[:37] + "..."
