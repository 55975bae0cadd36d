"""A gate for continuous integration: each candidate held against each requirement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sweep.comparison.arms import Arm
from sweep.comparison.model import Check
from sweep.comparison.pair import finished, peeked_of
from sweep.stats import Gate, decide


def checks(
    gates: Sequence[Gate],
    tasks: Iterable[Sequence[Arm]],
    base: str | None,
    *,
    paired: bool,
    max_failures: int,
    level: float,
) -> Iterator[Check]:
    """Every requirement for every candidate of every task; the base is the named arm, or the first."""
    for arms in tasks if gates else ():
        of = next((arm for arm in arms if arm.name == base), arms[0])
        for candidate in [arm for arm in arms if arm is not of] or [of]:
            for gate in gates:
                yield _check(gate, of, candidate, paired=paired, max_failures=max_failures, level=level)


def _check(gate: Gate, base: Arm, candidate: Arm, *, paired: bool, max_failures: int, level: float) -> Check:
    fixed = gate.form == "fixed"
    paired = paired and not fixed and base.seeds == candidate.seeds
    old, new = finished(base, candidate, gate.metric, paired=paired)
    held = [candidate] if fixed else [base, candidate]
    unfinished = sum(arm.unfinished + arm.missing(gate.metric) for arm in held)
    made = decide(
        gate, old, new, paired=paired, deterministic=all(arm.deterministic for arm in held),
        unfinished=unfinished, max_failures=max_failures, level=level,
    )  # fmt: skip
    return Check(
        requirement=str(gate), base=base.name, candidate=candidate.name, task=candidate.task, paired=paired,
        decision=made, stamp=peeked_of(held[0], held[-1]),
    )  # fmt: skip
