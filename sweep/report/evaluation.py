"""Scores of items, and answers that depend on the seed, as Documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sweep.analysis.model import Scored
from sweep.evaluation import Answers, Compared, Difference, Items
from sweep.number import around, number, percent, signed
from sweep.number import limits as between
from sweep.report.document import Document, Note, Section, Table, rest
from sweep.report.intervals import ci, limits, scale
from sweep.stats import Interval
from sweep.stats.items import ItemMean
from sweep.words import plural, shown

MOST_LISTED = 10  # examples
MOST_STEPS = 8  # rows of the abstention table


def items_view(found: Sequence[Items], against: Compared | None, command: str) -> Document:
    """Return the view of one set of items in every variant and task. against: the first (A) against the second (B)."""
    if against is not None:
        found = [replace(each, variant=letter, task="") for each, letter in zip(found, "AB", strict=True)]
    lead = [Note(_lead(each), "lead") for each in found]
    notes = [Note(text, "warning") for each in found if (text := _missing(each))]
    means = _means("", [(_name(each), each.mean) for each in found])
    sections = [Section("", [*lead, *notes]), Section("mean over items", [means])]
    if any(each.passes for each in found):
        sections.append(Section("passes", [_passes(found)]))
    if any(each.flip is not None for each in found):
        sections.append(Section("from seed to seed", [_flips(found)]))
    if against is not None:
        sections.append(Section("difference", _compared(against)))
    if command:
        sections.append(Section("", [Note(command, "command", "next")]))
    return Document(f"{found[0].name}: {plural(len(found[0].ids), 'item')}", sections)


def _where(each: Items | Answers) -> str:
    return ", ".join(part for part in (each.task, each.variant) if part)


def _name(each: Items) -> str:
    return _where(each) or each.name


def _lead(each: Items) -> str:
    widest = each.mean.widest
    over = "seeds and items" if each.mean.over_both else "items" if each.mean.over_items else "seeds"
    about = f"{percent(widest.level)} CI over {over}" if widest else "no interval"
    of = f"{_where(each)}: " if _where(each) else ""
    value = around(each.mean.mean, widest.half_width if widest else None)
    return f"{of}{each.name}/score {value} ({about}; n = {len(each.seeds)}, {each.failed} failed)"


def _missing(each: Items) -> str:
    lacking = each.planned - len(each.seeds)
    of = f" of {_where(each)}" if _where(each) else ""
    return f"{lacking} of {plural(each.planned, 'planned seed')}{of} saved no scores" if lacking else ""


def _means(title: str, found: Sequence[tuple[str, ItemMean]]) -> Table:
    """Return the mean over items with its intervals over seeds, over items and over both."""
    differ = len({mean.items for _, mean in found}) > 1  # if all are equal, the column is left out for lack of room
    rows = []
    for name, mean in found:
        decimals = scale(mean.widest)
        ends = [limits(one, decimals, none="—") for one in (mean.over_seeds, mean.over_items, mean.over_both)]
        rows.append([name, str(mean.seeds), *[str(mean.items)] * differ, number(mean.mean, decimals), *ends])
    clusters = {mean.clusters for _, mean in found if mean.clusters != mean.items}
    known = f"{plural(max(clusters), 'cluster')} of items count as one draw each" if clusters else (
        "no clusters are known: each item counts as one draw"
    )  # fmt: skip
    notes = ["over seeds: for these items; over items: for these seeds; over both: for new items and new seeds", known]
    header = (title, "seeds", *["items"] * differ, "mean", "over seeds", "over items", "over both")
    return Table(header, rows, notes=notes)


def scored(found: Sequence[Scored]) -> Iterator[Table | Note]:
    """Yield a table for each set of items, for the report of a directory."""
    for name in dict.fromkeys(one.name for one in found):
        its = [one for one in found if one.name == name]
        title = f"{shown(name)}, {plural(its[0].mean.items, 'item')}"
        yield _means(title, [(one.label or name, one.mean) for one in its[:MOST_LISTED]])
        if lacking := sum(one.lacking for one in its):
            yield Note(f"{plural(lacking, 'planned seed')} saved no scores of {shown(name)}", "warning")
        yield from rest(len(its) - MOST_LISTED, "row", "sweep items")


def _passes(found: Sequence[Items]) -> Table:
    rows = []
    for each in found:
        for one in each.passes:
            shares = ((one.at, one.at_interval), (one.all, one.all_interval))
            cells = [(number(value, scale(its)), limits(its, scale(its), none="—")) for value, its in shares]
            rows.append([_name(each), str(one.k), *cells[0], *cells[1]])
    by = "tries within a seed" if any(each.tries > 1 for each in found) else "seeds"
    notes = [f"pass@k: at least one of k {by} is right; pass^k: all of them are; unbiased; intervals over items"]
    return Table(("", "k", "pass@k", "CI", "pass^k", "CI"), rows, notes=notes)


def _flips(found: Sequence[Items]) -> Table:
    rows = [[_name(each), percent(each.flip), _shares(each.flip_interval)] for each in found if each.flip is not None]
    notes = ["flips: share of items for which a try in one seed and a try in another differ"]
    return Table(("", "flips", "CI over items"), rows, notes=notes)


def _shares(interval: Interval | None) -> str:
    return f"{percent(max(interval.low, 0))} to {percent(min(interval.high, 1))}" if interval else "—"


def _compared(found: Compared) -> list[Note]:
    decimals = scale(found.interval)
    low, high = (found.interval.low, found.interval.high) if found.interval else (0.0, 0.0)
    how = "paired by seed and item" if found.paired else "paired by item, with different seeds"
    word = "higher than" if low > 0 else "lower than" if high < 0 else "not distinguishable from"
    over = f"{ci(found.interval, decimals, sign=True)}, {how}; {plural(found.items, 'shared item')}"
    notes = [Note(f"A is {word} B: A - B is {signed(found.difference, decimals)} ({over})", "lead")]
    notes += _unshared(found, "items")
    if found.needed is not None and word == "not distinguishable from":
        seeds, items = (f"{n:,}" if n is not None else None for n in (found.needed.seeds, found.needed.items))
        ways = [f"{seeds} seeds with these items"] * bool(seeds) + [f"{items} items with these seeds"] * bool(items)
        said = f"{' or '.join(ways)} would show" if ways else "more seeds alone or more items alone would not show"
        notes.append(Note(f"{said} a difference of this size with power 0.8"))
    return notes


def _unshared(found: Compared | Difference, what: str) -> list[Note]:
    if not (found.only_a or found.only_b):
        return []
    return [Note(f"{found.only_a} {what} are only in A, and {found.only_b} only in B", "warning")]


def answers_view(found: Answers, difference: Difference | None = None) -> Document:
    """Return the view of the answers that depend on the seed. difference: churn between the two configurations."""
    votes = found.votes
    share = f"{percent(votes.interval.level)} CI {_shares(votes.interval)} over examples, these members"
    lead = Note(
        f"{percent(votes.arbitrary)} of {plural(len(found.ids), 'answer')} depend on the seed ({share}; "
        f"n = {votes.members}, {len(found.missing)} missing)", "lead",
    )  # fmt: skip
    sections = [Section("", [lead]), Section("abstention", [_abstention(found)])]
    if difference is not None:
        sections.append(Section("churn", _churn(difference)))
    sections.append(Section("most arbitrary examples", [_arbitrary(found)]))
    title = f"{_where(found)}: " if _where(found) else ""
    return Document(f"{title}answers on {found.split} that depend on the seed", sections)


def _abstention(found: Answers) -> Table:
    one = found.abstention
    chosen = np.unique(np.linspace(0, len(one.share) - 1, MOST_STEPS).round().astype(int))
    rows = [
        [percent(share), percent(coverage), number(accuracy, 4), between(low, high, 4)]
        for share, coverage, accuracy, low, high in zip(
            *(its[chosen].tolist() for its in (one.share, one.coverage, one.accuracy, one.low, one.high)), strict=True
        )
    ]
    header = ("votes of at least", "answered", "accuracy of these", "CI over examples")
    return Table(header, rows, notes=["the answer is that of the majority; if fewer members agree, there is none"])


def _churn(found: Difference) -> list[Note]:
    churn, decimals = found.churn, scale(found.churn.interval)
    more = churn.interval is not None and churn.interval.low > 0
    said = f"{'more' if more else 'no more'} than seeds alone cause"
    within = f"two of A on {percent(churn.within_a)}, two of B on {percent(churn.within_b)}"
    excess = f"excess {signed(churn.excess, decimals)}, {ci(churn.interval, decimals, sign=True)} over examples"
    of = f"{percent(churn.between)} of {plural(found.examples, 'example')}"
    note = Note(f"a member of A and one of B differ on {of}, {within}: {said} ({excess})")
    return [note, *_unshared(found, "examples")]


def _arbitrary(found: Answers) -> Table | Note:
    if not found.arbitrary.size:
        return Note("all members give the same answer to every example")
    rows = [
        [
            str(found.ids[i]), str(found.targets[i]), str(found.votes.label[i]),
            percent(float(found.votes.share[i])), percent(float(found.votes.unequal[i])),
        ]
        for i in found.arbitrary[:MOST_LISTED]
    ]  # fmt: skip
    more = found.arbitrary.size - len(rows)
    notes = [f"and {more:,} more on which members differ: --json lists all"] if more > 0 else []
    return Table(("id", "target", "majority", "votes", "unequal pairs"), rows, notes=notes, names=3)
