"""Scores of single items, from the files that evaluations write: JSON lines, or the JSON log of an evaluation.

It reads lines with an id and a number, the sample files of lm-evaluation-harness (`doc_id`, a metric, `filter`)
and the logs of inspect (`samples` with `id`, `epoch` and `scores`). A model is never called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.config.schema import Collect
from sweep.errors import SweepError
from sweep.metrics import json
from sweep.metrics.files import Left, located, read_text
from sweep.metrics.rows import as_number

IDS = ("id", "doc_id", "item", "item_id", "sample_id", "task_id", "question_id")
SCORE = ("score", "correct", "passed", "exact_match", "acc", "accuracy", "resolved", "success", "reward")
CLUSTER = ("cluster", "group", "subject", "category", "document")
REPEAT = ("repeat", "epoch", "try", "attempt", "sample")
LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # inspect: correct, partial, incorrect, no answer


def scores(collect: Collect | None, left: Left) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Yield (name, keyword arguments of `save_scores`) for every file in `collect.scores`.

    The field and the filter to take may follow the file: `samples.jsonl:exact_match:strict-match`.

    Raises: NotFound, SweepError with what the file holds instead.
    """
    for name, word in collect.scores.items() if collect else ():
        file, field, chosen = parts(word)
        where = f"collect.scores.{name}"
        yield name, read(located(file, left, where), field, chosen, where)


def parts(word: str) -> tuple[str, str, str]:
    """Return (file, field, filter) of FILE[:FIELD[:FILTER]]."""
    file, _, rest = word.partition(":")
    field, _, chosen = rest.partition(":")
    return file, field, chosen


def read(path: Path, field: str, chosen: str, where: str) -> dict[str, list[Any]]:
    """Return ids, score and, if the file has them, cluster and repeat, with one value per row of the file."""
    rows = _rows(path, where)
    if not rows:
        raise SweepError(f"{path.name} holds no items", where=where)
    if "filter" in rows[0]:
        filters = list(dict.fromkeys(str(row.get("filter")) for row in rows))
        if chosen or len(filters) == 1:
            rows = [row for row in rows if row.get("filter") == (chosen or filters[0])]
        if len(filters) > 1 and (not chosen or not rows):
            raise SweepError(
                f"{path.name} has each item once per filter: {', '.join(filters)}", where=where,
                hint=f"choose one: {path.name}:{field or 'FIELD'}:{filters[0]}",
            )  # fmt: skip
    named = _field(rows[0], IDS)
    taken = field or _field(rows[0], SCORE)
    if named is None or taken is None or taken not in rows[0]:
        lacking = "id" if named is None else f"field {field!r}" if field else "score"
        raise SweepError(
            f"{path.name} has no {lacking}; its fields are {', '.join(rows[0])}", where=where,
            hint="give each item an id" if named is None else f"name the score: {path.name}:FIELD",
        )  # fmt: skip
    made: dict[str, list[Any]] = {"ids": [_id(row.get(named), path, where) for row in rows]}
    if len({type(each) for each in made["ids"]}) > 1:
        made["ids"] = list(map(str, made["ids"]))
    made["score"] = [_number(row.get(taken), row.get(named), path, where) for row in rows]
    for key, names in (("cluster", CLUSTER), ("repeat", REPEAT)):
        other = _field(rows[0], names)
        if other is not None and other != taken and all(isinstance(row.get(other), (int, str)) for row in rows):
            made[key] = [str(row[other]) for row in rows]
    return made


def _rows(path: Path, where: str) -> list[dict[str, Any]]:
    text = read_text(path)
    found = json.objects(text, text, f"{where}: {path.name}")
    if len(found) == 1 and isinstance(found[0].get("samples"), list):
        return [_sample(each, path, where) for each in found[0]["samples"]]
    return found


def _sample(sample: Any, path: Path, where: str) -> dict[str, Any]:
    """Return one sample of an inspect log, with its scores as fields."""
    if not isinstance(sample, dict) or not isinstance(sample.get("scores"), dict) or not sample["scores"]:
        raise SweepError(f"a sample of {path.name} has no scores", where=where)
    values = {name: each.get("value") if isinstance(each, dict) else each for name, each in sample["scores"].items()}
    row = {"id": sample.get("id"), "epoch": sample.get("epoch", 1), **values}
    return row if len(values) > 1 else {**row, "score": next(iter(values.values()))}


def _field(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)


def _id(value: Any, path: Path, where: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise SweepError(f"the id of an item of {path.name} is not a whole number or text", where=where)
    return value


def _number(value: Any, item: Any, path: Path, where: str) -> float:
    if isinstance(value, bool):
        return float(value)
    found = LETTERS.get(value) if isinstance(value, str) else as_number(value)
    if found is None:
        raise SweepError(
            f"the score of item {item} of {path.name} is {str(value)[:40]!r}, which is not a number", where=where
        )
    return found
