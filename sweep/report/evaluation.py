"""Scores of items, and the answers that depend on the seed, as Documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sweep.analysis.model import Scored
from sweep.evaluation import Answers, Compared, Difference, Items
from sweep.number import around, limits, number, percent, places, signed
from sweep.report.document import Document, Note, Section, Table
from sweep.stats import Interval
from sweep.words import plural, shown

MOST_LISTED = 10  # examples
MOST_STEPS = 8  # rows of the abstention table


def items_view(found: Sequence[Items], against: Compared | None, command: str) -> Document:
    """Return the view of one set of items in every variant and task. against: of the first, A, and the second, B."""
    first = found[0]
    if against is not None:
        found = [replace(each, variant=letter, task="") for each, letter in zip(found, "AB", strict=True)]
    lead = [Note(_lead(each), "lead") for each in found]
    notes = [Note(text, "warning") for each in found if (text := _missing(each))]
    sections = [Section("", [*lead, *notes]), Section("mean over items", [means(found)])]
    if any(each.passes for each in found):
        sections.append(Section("passes", [_passes(found)]))
    if any(each.flip is not None for each in found):
        sections.append(Section("from seed to seed", [_flips(found)]))
    if against is not None:
        sections.append(Section("difference", _compared(against)))
    if command:
        sections.append(Section("", [Note(command, "command", "next")]))
    return Document(f"{first.name}: {plural(len(first.ids), 'item')}", sections)


def _where(each: Items | Answers) -> str:
    return ", ".join(part for part in (each.task, each.variant) if part)


def _lead(each: Items) -> str:
    widest = each.mean.widest
    over = "seeds and items" if each.mean.over_both else "items" if each.mean.over_items else "seeds"
    about = f"{percent(widest.level)} CI over {over}; " if widest else "no interval; "
    of = f"{_where(each)}: " if _where(each) else ""
    value = around(each.mean.mean, _half(widest))
    return f"{of}{each.name}/score {value} ({about}n = {len(each.seeds)}, {each.failed} failed)"


def _missing(each: Items) -> str:
    lacking = each.planned - len(each.seeds)
    of = f" of {_where(each)}" if _where(each) else ""
    return f"{lacking} of {plural(each.planned, 'planned seed')}{of} saved no scores" if lacking else ""


def means(found: Sequence[Items | Scored]) -> Table:
    """Return the mean over items with its intervals over seeds, over items and over both."""
    rows = []
    for each in found:
        mean = each.mean
        scale = places(_half(mean.widest))
        name = _where(each) if isinstance(each, Items) else each.label
        rows.append(
            [name or each.name, str(mean.seeds), str(mean.items), number(mean.mean, scale)]
            + [_interval(interval, scale) for interval in (mean.over_seeds, mean.over_items, mean.over_both)]
        )
    clusters = {each.mean.clusters for each in found if each.mean.clusters != each.mean.items}
    notes = ["over seeds: for these items; over items: for these seeds; over both: for new items and new seeds"]
    if clusters:
        notes.append(f"{plural(max(clusters), 'cluster')} of items count as one draw each")
    else:
        notes.append("no clusters are known: each item counts as a draw of its own")
    return Table(("", "seeds", "items", "mean", "over seeds", "over items", "over both"), rows, notes=notes)


def scored(found: Sequence[Scored]) -> Iterator[Table | Note]:
    """Yield a table for each set of items, for the report of a directory."""
    for name in dict.fromkeys(one.name for one in found):
        its = [one for one in found if one.name == name]
        table = means(its[:MOST_LISTED])
        if len({one.mean.items for one in its}) == 1:  # a terminal has no room for a column of equal numbers
            title = f"{shown(name)}, {plural(its[0].mean.items, 'item')}"
            rows = [(*row[:2], *row[3:]) for row in table.rows]
            table = replace(table, header=(title, table.header[1], *table.header[3:]), rows=rows)
        yield table
        lacking = sum(one.lacking for one in its)
        if lacking:
            yield Note(f"{plural(lacking, 'planned seed')} saved no scores of {shown(name)}", "warning")
        if (more := len(its) - MOST_LISTED) > 0:
            yield Note(f"… and {plural(more, 'more row')}: sweep items")


def _interval(interval: Interval | None, scale: int | None) -> str:
    return limits(interval.low, interval.high, scale) if interval else "—"


def _passes(found: Sequence[Items]) -> Table:
    rows = [
        [
            _where(each) or each.name, str(one.k),
            number(one.at, places(_half(one.at_interval))), _interval(one.at_interval, places(_half(one.at_interval))),
            number(one.all, places(_half(one.all_interval))),
            _interval(one.all_interval, places(_half(one.all_interval))),
        ]
        for each in found
        for one in each.passes
    ]  # fmt: skip
    by = "tries within a seed" if any(each.tries > 1 for each in found) else "seeds"
    notes = [f"pass@k: at least one of k {by} is right; pass^k: all of them are; unbiased; intervals over items"]
    return Table(("", "k", "pass@k", "CI", "pass^k", "CI"), rows, notes=notes)


def _half(interval: Interval | None) -> float | None:
    return interval.half_width if interval else None


def _flips(found: Sequence[Items]) -> Table:
    rows = [
        [_where(each) or each.name, percent(each.flip), _shares(each.flip_interval)]
        for each in found
        if each.flip is not None
    ]
    notes = ["flips: share of items for which one try in one seed and one in another differ"]
    return Table(("", "flips", "CI over items"), rows, notes=notes)


def _shares(interval: Interval | None) -> str:
    return f"{percent(max(interval.low, 0))} to {percent(min(interval.high, 1))}" if interval else "—"


def _compared(found: Compared) -> list[Note]:
    scale = places(_half(found.interval))
    low, high = (found.interval.low, found.interval.high) if found.interval else (0.0, 0.0)
    how = "paired by seed and item" if found.paired else "paired by item, other seeds"
    over = f"{percent(found.interval.level)} CI {limits(low, high, scale, sign=True)}, {how}" if found.interval else how
    word = "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"
    said = f"A is {word}: A - B is {signed(found.difference, scale)}"
    notes = [Note(f"{said} ({over}; {plural(found.items, 'shared item')})", "lead")]
    if found.only_a or found.only_b:
        notes.append(Note(f"{found.only_a} items of A and {found.only_b} of B are in one of the two only", "warning"))
    if found.needed is not None and word == "not distinguishable":
        seeds, items = (f"{n:,}" if n is not None else None for n in (found.needed.seeds, found.needed.items))
        ways = [f"{seeds} seeds with these items"] * bool(seeds) + [f"{items} items with these seeds"] * bool(items)
        said = " or ".join(ways) or "neither more seeds alone nor more items alone"
        notes.append(Note(f"a difference of this size would be decided, with power 0.8, by {said}"))
    return notes


def answers_view(found: Answers, other: Answers | None, difference: Difference | None) -> Document:
    """Return the view of which answers depend on the seed. difference: churn between the two configurations."""
    votes = found.votes
    share = f"{percent(votes.interval.level)} CI {_shares(votes.interval)} over examples, these members"
    lead = Note(
        f"{percent(votes.arbitrary)} of {plural(len(found.ids), 'answer')} depend on the seed ({share}; "
        f"n = {votes.members}, {len(found.missing)} missing)", "lead",
    )  # fmt: skip
    sections = [Section("", [lead]), Section("abstention", [_abstention(found)])]
    if difference is not None and other is not None:
        sections.append(Section("churn", _churn(difference)))
    sections.append(Section("most arbitrary examples", [_arbitrary(found)]))
    title = ", ".join(part for part in (found.task, found.variant) if part)
    return Document(f"{title + ': ' if title else ''}answers on {found.split} that depend on the seed", sections)


def _abstention(found: Answers) -> Table:
    one = found.abstention
    count = len(one.share)
    chosen = (
        range(count)
        if count <= MOST_STEPS
        else sorted({round(i * (count - 1) / (MOST_STEPS - 1)) for i in range(MOST_STEPS)})
    )
    rows = [
        [
            percent(float(one.share[i])), percent(float(one.coverage[i])),
            number(float(one.accuracy[i]), 4), limits(float(one.low[i]), float(one.high[i]), 4),
        ]
        for i in chosen
    ]  # fmt: skip
    return Table(
        ("votes of at least", "answered", "accuracy of these", "CI over examples"), rows,
        notes=["answers by majority, and none where fewer members agree"],
    )  # fmt: skip


def _churn(found: Difference) -> list[Note]:
    churn = found.churn
    scale = places(_half(churn.interval))
    more = churn.interval is not None and churn.interval.low > 0
    over = (
        f"{percent(churn.interval.level)} CI {limits(churn.interval.low, churn.interval.high, scale, sign=True)}"
        if churn.interval
        else "no interval"
    )
    said = "more than seeds alone cause" if more else "no more than seeds alone cause"
    within = f"two of A on {percent(churn.within_a)}, two of B on {percent(churn.within_b)}"
    excess = f"excess {signed(churn.excess, scale)}, {over} over examples"
    of = f"{percent(churn.between)} of {plural(found.examples, 'example')}"
    notes = [Note(f"a member of A and one of B differ on {of}, {within}: {said} ({excess})")]
    if found.only_a or found.only_b:
        notes.append(
            Note(f"{found.only_a} examples of A and {found.only_b} of B are in one of the two only", "warning")
        )
    return notes


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
