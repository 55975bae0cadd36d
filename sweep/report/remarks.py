"""The sentences of the remarks of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweep.analysis.comparison import Design
from sweep.analysis.model import ResultRule
from sweep.analysis.remarks import Remark
from sweep.errors import listed
from sweep.report.shared_files import remedy, sentence, two_programs
from sweep.stats.tasks import LEAST_TASKS
from sweep.words import every, path_argument, plural, shown

WHAT = {"data": "data", "mode": "modes", "device": "devices", "threads": "thread counts", "result": "result rules"}
DESIGNS = {
    "bounds": "configurations are checked against fixed bounds, not compared with each other",
    "no seeds": "unpaired: the seeds of the adopted runs are unknown",
    "as asked": "unpaired, as requested",
    "other seeds": "unpaired: the planned seeds differ",
    "mostly shared": "paired by shared seeds where most are shared, otherwise unpaired",
    "same seeds": "paired by seed: the planned seeds are the same",
}


def design(found: Design) -> str:
    """Return how the pairs were made."""
    if found.kind != "shared seeds":
        return DESIGNS[found.kind]
    first, last = found.shared[0], found.shared[-1]
    count = str(first) if first == last else f"{first} to {last}"
    return f"paired by the {count} seeds that both sides plan; the others are left out of the difference"


def said_of(remark: Remark) -> str:
    """Return the sentence of a remark."""
    made = SAID[remark.code]
    return made.format(**remark.of) if isinstance(made, str) else made(remark.of)


def _differ(of: Mapping[str, Any]) -> str:
    values = "" if of["in"] == "data" else f" ({listed([shown(value) or 'none' for value in of['values']])})"
    return f"different {WHAT[of['in']]}{values}: the difference may not come from the configurations alone"


def _identical(of: Mapping[str, Any]) -> str:
    arm = f"{shown(of['arm'])}: " if of.get("arm") else ""
    return f"{arm}{listed(list(of['runs']))} gave identical results: the program seems to ignore its seed"


def _shared(of: Mapping[str, Any]) -> str:
    more = f", and {plural(of['more'], 'other file')} like it" if of["more"] else ""
    return f"{shown(sentence(of['first']), 400)}{more}" + ("" if of["in_turn"] else f"; {remedy(of['allowed'])}")


def _environments(of: Mapping[str, Any]) -> str:
    runs = " + ".join(map(str, of["runs"]))
    verdicts = f"verdict: {listed(of['verdicts'])}"
    return f"{len(of['runs'])} different environments ({runs} runs), differing in {listed(of['in'])} ({verdicts})"


def _late(of: Mapping[str, Any]) -> str:
    others = f", and after {listed([shown(rule) for rule in of['before']])}" if of["before"] else ""
    return f"the stopping rule was named after results existed{others}: its result does not account for that look"


def _flat(of: Mapping[str, Any]) -> str:
    label = f" of {shown(of['label'])}" if of["label"] else ""
    what = f"{every(of['n'], 'seed')}{label} have the same {shown(of['metric'])}"
    return f"{what}: an interval of width 0 is no evidence"


def _ends(of: Mapping[str, Any]) -> str:
    odd = listed([f"{key} at {end}" for key, end in of["odd"].items()])
    return f"runs ended at different steps: {odd}, the others at {of['usual']}"


def _chosen(of: Mapping[str, Any]) -> str:
    other = shown(path_argument(of["other"]))
    return f"{shown(of['primary'])} was taken as the primary metric; choose another with primary={other}"


def _undirected(of: Mapping[str, Any]) -> str:
    lost = "which variant is better" if of["several"] else "how the failed runs rank"
    told = shown(path_argument(f"goals.{of['primary']}=max"))
    return (
        f"the report cannot show {lost}: it is not known whether a higher or a lower "
        f"{shown(of['primary'])} is better; add {told}, or =min, to the same command"
    )


def _adopted(of: Mapping[str, Any]) -> str:
    lacking = (
        f"; {plural(of['missing'], 'run')} that other variants have {'is' if of['missing'] == 1 else 'are'} missing"
        if of["missing"]
        else ""
    )
    return f"adopted results: runs that failed may be missing from them{lacking}"


def _unreferenced(of: Mapping[str, Any]) -> str:
    which = f" for {listed(of['tasks'], 3)}" if of["tasks"] else ""
    return f"no common scale: references{which} are missing"


def result_rule(found: Sequence[ResultRule]) -> str:
    """Return how the reported values were chosen, and at which epochs."""
    return "; ".join(map(_rule, found))


def _rule(one: ResultRule) -> str:
    at = "" if one.first is None else f" {one.first}" if one.first == one.last else f"s {one.first} to {one.last}"
    if one.rule == "final":
        return f"final epoch{at}"
    if one.rule == "returned":
        return "the values that the training code returned"
    return f"{shown(one.rule)}, epoch{at}" if at else shown(one.rule)


def reproducibility(stamp: Mapping[str, Any]) -> str:
    """Return what was proven about equal bits; a deterministic flag alone is no proof."""
    if not stamp:
        return "not checked"
    said = str(stamp.get("summary") or stamp.get("verdict") or "checked, but the stamp does not record how")
    if stamp.get("status") == "proven" and _status(stamp) == "sampled":
        said = said.replace("proven (", "sampled (", 1)
    if stamp.get("later"):
        said += f"; since then: {stamp['later']}"
    return shown(said, 800)


def reproducibility_in_short(stamp: Mapping[str, Any]) -> str:
    """Return the same without its evidence, on one line, if all bits were equal."""
    if (status := _status(stamp)) not in ("proven", "sampled") or stamp.get("later"):
        return reproducibility(stamp)
    key = shown(str(stamp.get("key", "a run")), 40)
    what = f"all of {key} was" if status == "proven" else f"the first steps of {key} were"
    return f"{status} ({what} trained again: equal bits; evidence: --full)"


def _status(stamp: Mapping[str, Any]) -> str:
    early = stamp.get("how") == "canary" and "extent" not in stamp  # earlier versions called the first steps proven
    return "sampled" if early and stamp.get("status") == "proven" else str(stamp.get("status", ""))


# Sentences with the fields of their remark in braces, or functions if text of users has to be shown.
SAID: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "tasks of one arm": "{left} of {of} configurations have a task that no other has; they are left out",
    "arms differ": _differ,
    "identical results": _identical,
    "unmade part": lambda of: (
        f"{of['part']} could not be made: {of['why']}" + ("" if of["foreseen"] else "; --debug shows where")
    ),
    "not bit-exact": lambda of: (
        f"this sweep should be bit-exact, but is not: {shown(str(of['difference'] or 'see bit-exact below'), 200)}"
    ),
    "two programs": lambda of: (
        f"{shown(two_programs(of['changed']), 600)}; the same command trains those again once the files are as planned"
    ),
    "shared file": _shared,
    "environments": _environments,
    "primary moved": lambda of: f"the primary metric was changed from {shown(of['before'])} after results existed",
    "rule named late": _late,
    "no spread": _flat,
    "retried": lambda of: (
        f"{plural(len(of['runs']), 'run')} trained again, with the earlier record set aside ({listed(of['runs'])})"
    ),
    "different rules": lambda of: f"results were chosen by different rules: {listed(list(map(shown, of['rules'])))}",
    "different ends": _ends,
    "read differently": "the metrics of these runs were read in different ways: sweep collect reads all in one way",
    "noted": lambda of: f"{shown(of['note'], 300)} ({listed(of['runs'], 3)})",
    "primary chosen": _chosen,
    "no direction": _undirected,
    "no mean over examples": "{metric} is not a mean over examples",
    "fewer than two seeds": "fewer than two seeds finished",
    "predictions missing": "not every run saved its {split} predictions",
    "not computable": "{metric} cannot be computed from the predictions",
    "parts of examples": "its {rows} rows are parts of examples, but not the same number for each example",
    "adopted": _adopted,
    "another mean": "{metric} is not the mean over the saved predictions",
    "members without predictions": "{without} of {of} members saved no {split} predictions",
    "too many predictions": "{mebibytes} MiB of predictions are too many for a report: use sweep ensemble",
    "refused": lambda of: str(of["why"]).replace("\n  ", "; "),
    "references missing": _unreferenced,
    "no common scale": "no common scale: {why}",
    "no seed in every task": "no seed finished in every task",
    "not logged": "not every run logged the metric",
    "no step in every run": "no step lies within the logged steps of every run",
    "few tasks": f"no interval: a bootstrap interval needs at least {LEAST_TASKS} tasks",
    "one seed per task": "no interval: one seed per task",
    "no interval": "no interval: {why}",
    "seeds to come": "seeds are pending or lost: this is an interim look at part of the plan",
}
