"""A comparison on a terminal: the sentence first, then the numbers behind it."""

from __future__ import annotations

from sweep.comparison import facts
from sweep.comparison.model import Check, Comparison, Pair
from sweep.report.layout import BOLD, DIM, INDENT, RED, STYLE, YELLOW, aligned, paint, wrapped

STYLES = {0: BOLD, 1: RED, 4: YELLOW}


def text(found: Comparison, *, width: int = 80, color: bool = False) -> str:
    """The comparison as text for a terminal of `width` columns, ending in a newline."""
    full = facts.told_in_full(found)
    blocks = [
        [paint(facts.title(found), BOLD), *wrapped(found.why, width)],
        [line for sentence in facts.sentences(found) for line in wrapped(sentence, width)],
        *(_pair(pair, found, width) for pair in full),
        _overview(found, width) if len(found.pairs) > len(full) else [],
        _exploratory(found, width),
        [line for check in found.checks for line in _check(check, width)],
        [line for warning in found.warnings for line in wrapped(f"{paint('warning', YELLOW)}: {warning}", width)],
        [INDENT + paint("next       ", DIM) + command for command in found.next],
    ]
    told = "\n\n".join("\n".join(block) for block in blocks if block) + "\n"
    return told if color else STYLE.sub("", told)


def _pair(pair: Pair, found: Comparison, width: int) -> list[str]:
    lines = [INDENT + paint(facts.pair_label(pair), BOLD)] if len(found.pairs) > 1 else []
    lines += aligned(facts.sides(pair), width)
    for name, value in facts.facts(pair, found):
        lines += _fact(name, value, width)
    if best := facts.flattery(pair):
        lines += wrapped(best, width, DIM)
    for line in pair.plan:
        lines += [INDENT + line] if line.startswith("valid sequential design") else wrapped(line, width)
    return lines


def _fact(name: str, value: str, width: int) -> list[str]:
    first, *rest = wrapped(value, max(40, width - 14)) or [INDENT]
    lines = [INDENT + paint(f"{name:<12}", DIM) + first.strip()]
    return lines + [INDENT + " " * 12 + line.strip() for line in rest]


def _overview(found: Comparison, width: int) -> list[str]:
    notes = [*facts.stamps(found), "--baseline NAME compares each with one; --format json has every number"]
    return aligned(facts.overview(found), width) + [line for note in notes for line in wrapped(note, width, DIM)]


def _exploratory(found: Comparison, width: int) -> list[str]:
    if not found.exploratory:
        return []
    more = facts.unlisted(found)
    return aligned(facts.exploratory(found), width) + ([INDENT + more] if more else [])


def _check(check: Check, width: int) -> list[str]:
    verdict = paint(facts.VERDICT[check.decision.code], STYLES[check.decision.code])
    first, *rest = facts.judged(check)
    return [line for words in (f"{verdict}: {first}", *rest) for line in wrapped(words, width)]
