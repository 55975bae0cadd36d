"""Metrics in the lines that a program logs as text, taken only if they are unambiguous.

A metric is a name whose direction is known, with a number after it, on several lines or at the end of the output. It
always follows the same words, its number is complete and alone, and its steps do not start over.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from sweep.config.pattern import NUMBER
from sweep.goals import direction, is_score, is_split, primary_of, split_of, stem
from sweep.metrics.rows import STEPS, Row, as_number

_LONGEST = 2000  # characters: longer lines are not read
_NAME = r"(?P<name>[A-Za-z][\w/.@'^-]*(?: [A-Za-z][\w/.@'^-]*){0,2})"
_PAIR = re.compile(
    rf"(?<![\w/.@'-]){_NAME}(?P<mark>[\"']?(?: ?[=:] {{0,2}}| +)\[?)(?P<number>{NUMBER}|(?:None|null|n/a)\b)"
)
_CELLS = re.compile(rf"^[|│┃] *{_NAME}(?P<mark> +[|│┃] +)(?P<number>{NUMBER}) *[|│┃]$")  # a table of two columns
_GROUP = re.compile(r"^[|│┃] *([\w/-]+/) *[|│┃] *[|│┃]$")  # the line above some of its rows
# What follows a number that is part of something else (a unit, a fraction, a range) or one of several numbers.
_CUT = re.compile(r"[\w/:]|\.\w|-\d| ?%\|")
_UNIT = r"\s?(?:ms|s|secs?|seconds?|min|minutes|h|hours)\b"
_SEVERAL = re.compile(rf"(?!\s*\(\d+ ?/ ?\d+\))\s*[,(\[]?\s*{NUMBER}(?![\w%:/]|\.\d|{_UNIT})|\s*(?:->|→|\.\.)")
_BAR = re.compile(r"\d%\||\d ?(?:it/s|s/it)\b")  # a progress bar shows one moment and is not a log
_CALL = re.compile(r"(?<=\w)\([^()]*=[^()]*\)")  # options, as `Namespace(lr=0.1)` prints them
_AT = re.compile(
    r"(?i)(?<![A-Za-z])(global_step|step|epoch|iteration|iter|it|episode|ep|round|update|batch|timestep)s?"
    r"[\"']?[ =:#]{0,3}[\[(]? *(\d+)(?![.\d]*[A-Za-z%])|^\[(\d+)\]\s"
)
_PART = re.compile(
    r"(?i)(?<![\w.-])(fold|trial|task|seed|repeat|subject|experiment|run)[ _=:#-]{0,3}[\[(]? ?(\d+)(?![\d.])"
)
_ONE_OF = ("rank", "worker", "client", "agent", "gpu", "class", "layer", "model", "dataset", "split")
_LABEL = re.compile(r"(?i)(?<![\w./-])(train|val|valid|validation|test|eval|evaluation|dev)(?![\w./-])")
_WORD = re.compile(r"(?<![\w./])[a-z_][\w-]*")
_PASSING = re.compile(r"eta|(?:mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}")
_RUN = re.compile(r"(?<![\w@])(?<![\w@]-)\d+")  # digits that are not part of a name, such as the 10 of cifar10
_NUMBERED = re.compile(r"(?i)\d|\bnan\b|\binf")
_EDGES = ("|", "│", "┃")
_SHAPES = 5000  # kinds of lines that are read
_COUNTED = ("global_step", "step", "epoch", "batch")  # anything else that is counted is an iteration
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Name:
    """A name before a number.

    key: its name in a record. mark: the text between it and the number. place: the words before it on its line, the
    same for all values of one metric. label: the split that they name. whole: whether the number is not part of
    something else. alone: whether no other number follows. beside: the names before it.
    """

    key: str
    text: str
    mark: str
    place: tuple[object, ...]
    label: str
    whole: bool
    alone: bool
    beside: Sequence[str]

    @property
    def table(self) -> bool:
        """Return whether it is in a table."""
        return self.mark.strip() in _EDGES

    def reading(self, called: str) -> str:
        """Return the `--metrics` value that reads this name as `called`."""
        text, mark = (re.escape(each).replace("\\ ", " ").replace("\\-", "-") for each in (self.text, self.mark))
        mark = re.sub(" +", " +", mark) if self.table or not mark.strip() else mark
        label = rf"\b{self.label}\b.*?" if called != self.key else ""
        group = re.sub(r"[^A-Za-z0-9]", "_", called)
        return label + text + mark + ("{number}" if called == self.text else f"(?P<{group}>{{number}})")


@dataclass(frozen=True)
class Pair:
    """A name and the number after it.

    line: counted from 0; every row of a table has the table's first line. beside: the numbers before it on its line.
    steps: the steps that the program had reached.
    """

    name: Name
    number: str
    line: int
    beside: Sequence[str]
    steps: Mapping[str, int]

    @property
    def key(self) -> str:
        return self.name.key


@dataclass(frozen=True)
class _Span:
    """A piece of a line, from `before` characters before a run of digits to `after` after another, or a fixed text."""

    text: str
    runs: tuple[int, int] | None
    before: int = 0
    after: int = 0

    def of(self, line: str, runs: Sequence[tuple[int, int]]) -> str:
        if self.runs is None:
            return self.text
        first, last = self.runs
        return line[runs[first][0] - self.before : runs[last][1] + self.after]


@dataclass(frozen=True)
class _Shape:
    """The contents of lines that differ only in their digits. A number is the place of its digits in the line.

    names: each with whether it is shown; a word of a sentence is not. parts: for example folds of the data.
    """

    names: Sequence[tuple[Name, bool, _Span]]
    steps: Sequence[tuple[str, _Span]]
    parts: Sequence[tuple[str, _Span]]
    fixed: bool  # whether no name has digits that differ


@dataclass(frozen=True)
class Logged:
    """The output of a program: every pair, the rows that are taken, and the metrics that are not, with the reason.

    words: the `--metrics` values that read only the headline.
    """

    pairs: Sequence[Pair]
    rows: Sequence[Row]
    left_out: Mapping[str, str]
    words: str = ""

    @property
    def names(self) -> list[str]:
        """Return the names that are taken."""
        return list(dict.fromkeys(name for row in self.rows for name in row if name not in STEPS))


def logged(text: str) -> Logged:
    """Return the metrics in a cleaned text; none if the headline among them is ambiguous."""
    found, parts = pairs(text)
    on: dict[str, set[int]] = defaultdict(set)
    for pair in found:
        on[pair.key].add(pair.line)
    repeated = {key for key, its in on.items() if len(its) > 1}
    known = [pair for pair in found if direction(pair.key) is not None]
    at_end = _end(found, known, repeated)
    again = [f"{part} {' and '.join([*counts][:2])} are logged" for part, counts in parts.items() if len(counts) > 1]
    taken: dict[str, list[Pair]] = {}
    left_out: dict[str, str] = {}
    for key, its in _by_name(known).items():
        if len({pair.line for pair in its}) > 1 or its[0].line >= at_end:
            why = again[0] if again else _unclear(its)
            if why:
                left_out[key] = why
            else:
                taken[key] = its
    for a, b in combinations(taken, 2):
        lines_of_both = {pair.line for pair in taken[a]} & {pair.line for pair in taken[b]}
        if (stem(a), split_of(a)) == (stem(b), split_of(b)) and not lines_of_both:
            left_out |= {a: f"{b} is logged as well", b: f"{a} is logged as well"}
    taken = {key: its for key, its in taken.items() if key not in left_out}
    others = [key for key in repeated if direction(key) is None]
    rivals = [
        *left_out,
        *(f"{pair.name.label}/{pair.key}" for pair in found if pair.name.label and pair.key in left_out),
    ]
    rivals += [name for name in _said_after(text.splitlines()[at_end + 1 :]) if stem(name) not in map(stem, taken)]
    headline = primary_of([*taken, *rivals, *filter(is_score, others)])
    nameless = any(map(is_split, others))  # `Train: 0.9 Test: 0.8`
    if headline not in taken or nameless:
        return Logged(found, [], left_out)
    return Logged(found, _rows(taken), left_out, taken[headline][0].name.reading(headline))


def pairs(text: str) -> tuple[list[Pair], Mapping[str, Collection[str]]]:
    """Return every name that has a number after it on its line, and the parts of the work with their numbers.

    Return nothing if hardly any two lines are alike: that is not a log.
    """
    found: list[Pair] = []
    parts: dict[str, dict[str, None]] = defaultdict(dict)
    shapes: dict[tuple[str, str], _Shape] = {}
    steps: dict[str, int] = {}
    group, read, top = "", 0, 0
    for at, raw in enumerate(text.splitlines()):
        line = raw.strip()
        if not line.startswith(_EDGES):
            group, top = "", at + 1
        elif above := _GROUP.match(line):
            group = above[1]
        if len(line) > _LONGEST or not _NUMBERED.search(line) or _BAR.search(line):
            continue
        line = _CALL.sub("()", line)
        runs = [digits.span() for digits in _RUN.finditer(line)]
        alike = group, _RUN.sub("0", line)
        shape = shapes.get(alike)
        if shape is None:
            shape, read = _shape(line, runs, group), read + 1
            if read > _SHAPES:
                return [], {}
            if shape.fixed:
                shapes[alike] = shape
        for word, span in shape.steps:
            steps = {**steps, word: int(span.of(line, runs))}
        for word, span in shape.parts:
            parts[word][span.of(line, runs)] = None
        numbers = [span.of(line, runs) for *_, span in shape.names]
        found += [
            Pair(name, numbers[nth], min(at, top), numbers[:nth], steps)
            for nth, (name, shown, _) in enumerate(shape.names) if shown
        ]  # fmt: skip
    return found, parts


def _shape(line: str, runs: Sequence[tuple[int, int]], group: str) -> _Shape:
    """Return the contents of a line. group: the heading above this row of a table."""

    def span(start: int, end: int) -> _Span:
        inside = [nth for nth, (low, high) in enumerate(runs) if start <= low and high <= end]
        if not inside:
            return _Span(line[start:end], None)
        first, last = inside[0], inside[-1]
        return _Span("", (first, last), runs[first][0] - start, end - runs[last][1])

    names: list[tuple[Name, bool, _Span]] = []
    beside: list[str] = []
    words, end, fixed = "", 0, True
    for found in (_CELLS if line.startswith(_EDGES) else _PAIR).finditer(line):
        gap, mark = line[end : found.start("name")], found["mark"]
        text = _own(found["name"], mark, gap)
        words = f"{words} {gap}{found['name'].removesuffix(text)}"
        end = found.end("number")
        listed = mark.endswith("[")
        closed = not listed or line.startswith("]", end)
        end += listed and closed
        key = group + text.replace("'s ", "/").replace(" ", "_")
        said = tuple(w for w in _WORD.findall(_AT.sub(" ", words).lower()) if not _PASSING.fullmatch(w))
        label = (_LABEL.findall(words) or [""])[-1].lower()
        place = (said, label, key in beside, line[end:].lstrip().startswith("%"))
        alone = closed and not _SEVERAL.match(line, end)
        name = Name(key, text, mark, place, label, not _CUT.match(line, end), alone, tuple(beside))
        shown = bool(mark.strip()) or direction(key) is not None or key.lower() in STEPS
        names.append((name, shown, span(*found.span("number"))))
        beside.append(key)
        words += f" {' '.join(_LABEL.findall(text))} "
        fixed = fixed and "," not in found["number"] and span(*found.span("name")).runs is None
    steps = []
    for at in _AT.finditer(line):
        word = (at[1] or "").lower()
        steps.append((word if word in _COUNTED else "iteration", span(*at.span(2 if word else 3))))
    parts = [(part[1].lower(), span(*part.span(2))) for part in _PART.finditer(line)]
    return _Shape(names, steps, parts, fixed)


def _own(name: str, mark: str, gap: str) -> str:
    """Return the words of a name without those of a sentence or a log level before it."""
    words = name.split(" ")
    level = max((at for at, word in enumerate(words[:-1]) if word in _LEVELS), default=-1)
    prose = gap[-2:-1].isalpha() and gap.endswith(" ")
    return " ".join(words[-1:] if prose or mark == "=" else words[level + 1 :])


def _by_name(known: Sequence[Pair]) -> Mapping[str, list[Pair]]:
    """Return pairs by name. The split on their line is put before names that it distinguishes."""
    kinds: dict[tuple[str, str], dict[tuple[str, object], str]] = defaultdict(dict)
    for pair in known:
        kinds[stem(pair.key), split_of(pair.key)][pair.key, pair.name.place] = pair.name.label
    out: dict[str, list[Pair]] = defaultdict(list)
    for pair in known:
        labels = kinds[stem(pair.key), split_of(pair.key)]
        apart = all(labels.values()) and len(set(labels.values())) > 1
        apart = apart and len({(key, label) for (key, _), label in labels.items()}) == len(labels)
        out[f"{pair.name.label}/{pair.key}" if apart else pair.key].append(pair)
    return out


def _end(found: Sequence[Pair], known: Sequence[Pair], repeated: Collection[str]) -> int:
    """Return the line where the end of the output begins: the last line that logs something logged before.

    If there is none, the end consists of the last lines whose numbers are metrics, apart from steps, times and rates.
    """
    if body := [pair.line for pair in known if pair.key in repeated]:
        return max(body)
    names: dict[int, list[str]] = defaultdict(list)
    for pair in found:
        if pair.name.whole:
            names[pair.line].append(pair.key)
    at = max(names, default=0) + 1
    for line in sorted(names, reverse=True):
        if any(direction(key) is not None for key in names[line]):
            at = line
        elif any(map(is_score, names[line])):
            break
    return at


def _said_after(lines: Sequence[str]) -> Iterator[str]:
    """Yield the usual names of metrics in lines with numbers."""
    for line in lines:
        if re.search(r"\d", line) and not _BAR.search(line) and not line.startswith(_EDGES):
            yield from (word for word in _WORD.findall(line.lower()) if direction(word) is not None)


def _unclear(its: Sequence[Pair]) -> str:
    """Return why the numbers of a name are not values of one metric, or ""."""
    if len({pair.name.place for pair in its}) > 1:
        return "it is logged in more than one way"
    if not all(pair.name.whole and pair.name.alone for pair in its):
        return "it has more than one number on a line"
    if any(as_number(pair.number) is None for pair in its):
        return "it has no number on some lines"
    numbers = {pair.number for pair in its}
    if not any(re.search(r"[^-+\d,]", each) for each in numbers) and not (its[0].name.table and len(numbers) > 1):
        return "its numbers are whole, like counts"
    first = its[0]
    for nth, name in enumerate(first.name.beside):
        changes = len({pair.beside[nth] for pair in its if nth < len(pair.beside)}) > 1
        counts = name.lower() in first.steps or direction(name) is not None
        if changes and not counts and (not first.steps or name.lower() in _ONE_OF):
            return f"{name} on its lines changes, too"
    for before, after in pairwise(its[:-1]):
        shared = before.steps.keys() & after.steps.keys()
        moves = {after.steps[name] - before.steps[name] for name in shared}
        if moves and max(moves) <= 0 > min(moves):
            return "its steps start over"
    return ""


def _rows(taken: Mapping[str, Sequence[Pair]]) -> list[Row]:
    """Return a row for each line, with the counter that grows from each line to the next."""
    rows: dict[int, dict[str, float | None]] = defaultdict(dict)
    steps: dict[int, Mapping[str, int]] = {}
    for key, its in taken.items():
        for pair in its:
            rows[pair.line][key] = as_number(pair.number)
            steps[pair.line] = pair.steps
    lines = sorted(rows)
    for name in STEPS:
        counts = [steps[line][name] for line in lines if name in steps[line]]
        if len(set(counts)) > 1 and counts[:-1] == sorted(counts[:-1]):
            return [{**({name: steps[line][name]} if name in steps[line] else {}), **rows[line]} for line in lines]
    return [rows[line] for line in lines]
