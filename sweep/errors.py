"""The errors that a user can make. Every message names the thing, the place and the next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Return `text` with control and direction characters made visible, except line ends and tabs.

    Names and messages come from user code and from directories of others. Printed as they are, they could move the
    cursor, clear the screen or reverse a line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Return `text` with all characters that do not print made visible, including line ends."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character) or ascii(character)[1:-1]


class SweepError(Exception):
    """The base of all errors of sweep. `exit_code` is the exit code of the command line.

    what: one sentence with the thing and its value; where: file, key or path; hint: the next step.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return printable(f"{head}\n  {self.hint}" if self.hint else head)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments would not survive the default pickling between Ray processes.
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[SweepError], what: str, where: str | None, hint: str | None) -> SweepError:
    return kind(what, where=where, hint=hint)


class ConfigError(SweepError):
    """The configuration, its overrides or the seeds are wrong. Nothing was started or written."""

    @classmethod
    def of(cls, problems: Sequence[SweepError], *, where: str | None = None) -> ConfigError:
        """Return one error for several, each on its own line with its own place."""
        if len(problems) == 1:
            only = problems[0]
            place = ": ".join(p for p in (where, only.where) if p) or None
            return cls(only.what, where=place, hint=only.hint)
        lines = "\n".join("  " + str(p).replace("\n", "\n  ") for p in problems)
        return cls(f"{len(problems)} problems\n{lines}", where=where)


class MetricError(SweepError):
    """A run gave no metrics, or something that is not a metric."""


def no_column(name: str, columns: Sequence[str], where: str) -> ConfigError:
    """Return the error for a table without a column that was named."""
    return ConfigError(
        f"there is no column {name!r}", where=where, hint=f"name one of its columns: {', '.join(columns[:20])}"
    )


class TargetError(SweepError):
    """The named recipe or function cannot be found, imported or called with these parameters."""


class StoreError(SweepError):
    """A run directory is missing, in use, not writable, or belongs to another experiment."""


class EnvironmentRefused(SweepError):
    """The machine or its software lacks what was requested (devices, threads, determinism)."""


class IntegrityError(SweepError):
    """A file differs from what was written, or a promise of reproducibility is broken."""

    exit_code = 3


class EnsembleError(SweepError):
    """Members cannot be combined: ids, shapes, classes, or rows that are not probabilities."""


class StatisticsError(SweepError, ValueError):
    """A requested statistic does not exist for these data; the message has the reason."""


def unreported(metric: str, known: Sequence[str]) -> StatisticsError:
    """Return the error for a metric that no run reports."""
    hint = f"name a reported metric: {listed(known, 20)}" if known else "log or return a metric in the training code"
    return StatisticsError(f"no run reports {metric!r}", hint=hint)


def listed(items: Sequence[str], most: int = 5) -> str:
    """Return "a, b, c and 4 more"."""
    head = ", ".join(items[:most])
    return head if len(items) <= most else f"{head} and {len(items) - most} more"


def short(text: str) -> str:
    """Return a text for a message, cut if it is long."""
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def show(value: object) -> str:
    """Return a value for a message: quoted, on one line, cut if it is long."""
    return short(repr(value))


def some(names: Iterable[str], most: int = 6) -> str:
    """Return the distinct names of a list as `listed` does, without empty ones."""
    return listed([*dict.fromkeys(filter(None, names))], most)
