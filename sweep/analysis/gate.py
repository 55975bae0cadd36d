"""A gate for continuous integration: each candidate is checked against each requirement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sweep.analysis.arms import Arm, pairable, ratio_of
from sweep.analysis.comparison import Check
from sweep.analysis.pair import looks_of, outcomes
from sweep.errors import ConfigError, StatisticsError
from sweep.goals import direction
from sweep.number import number
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
    """Check every candidate of every task against every requirement; the base is the named arm, or the first."""
    for arms in tasks if gates else ():
        of = next((arm for arm in arms if arm.name == base), arms[0])
        for candidate in [arm for arm in arms if arm is not of] or [of]:
            for gate in gates:
                yield _check(gate, of, candidate, paired=paired, max_failures=max_failures, level=level)


def require_direction(gates: Sequence[Gate], goal_of: Mapping[str, str]) -> None:
    """Raise ConfigError for a gate that a worse candidate passes; it names the goal of the metric."""
    for gate in gates:
        goal = direction(gate.metric, goal_of)
        if goal is not None and (goal == "max") != (gate.side == ">="):
            size, right = ("large", ">=") if goal == "max" else ("small", "<=")
            turned = str(gate).replace(f" {gate.side} ", f" {right} ")
            if gate.form == "offset":
                turned = f"{gate.metric} {right} base {'-' if goal == 'max' else '+'} {abs(gate.number)!r}"
            elif gate.form == "scale":
                share = abs(1 - gate.number)
                turned = f"{gate.metric} {right} base * {number(1 - share if goal == 'max' else 1 + share)}"
            raise ConfigError(
                f"{gate.metric} should be {size} (its goal is {goal}), but {str(gate)!r} lets worse candidates pass",
                where="--require", hint=f"write for example {turned!r}; if the goal is wrong, set goals in the config",
            )  # fmt: skip


def _check(gate: Gate, base: Arm, candidate: Arm, *, paired: bool, max_failures: int, level: float) -> Check:
    fixed = gate.form == "fixed"
    paired = paired and not fixed and pairable(base, candidate)
    old, new = outcomes(base, candidate, gate.metric, paired=paired, failed=True)
    lowest = min(base.values.get(gate.metric, {}).values(), default=0.0)
    if gate.form == "scale" and lowest < 0:
        sign = "-" if gate.side == ">=" else "+"
        raise StatisticsError(
            f"{gate.metric} of the base is {number(lowest)}, and a share of a negative number bounds the other way",
            where="--require", hint=f'give the margin as a number: "{gate.metric} {gate.side} base {sign} 0.1"',
        )  # fmt: skip
    held = [candidate] if fixed else [base, candidate]
    if cut := [arm for arm in held if arm.folds]:
        raise StatisticsError(
            "a gate compares seeds, but these runs are cross-validated", where=cut[0].directory,
            hint="compare without --require, or train without folds",
        )  # fmt: skip
    unfinished = sum(arm.unfinished + arm.missing(gate.metric) for arm in held)
    made = decide(
        gate, old, new, paired=paired, deterministic=all(arm.deterministic for arm in held),
        unfinished=unfinished, max_failures=max_failures, level=level, ratio=ratio_of(held, "a gate"),
    )  # fmt: skip
    return Check(
        requirement=str(gate), base=base.name, candidate=candidate.name, task=candidate.task, paired=paired,
        decision=made, looks=looks_of(held[0], held[-1]), adopted=any(arm.adopted for arm in held),
    )  # fmt: skip
