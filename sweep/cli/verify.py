"""`sweep verify` and `sweep reproduce`: prove that runs repeat their bits."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import options
from sweep.cli.output import emit, note, say
from sweep.errors import ConfigError
from sweep.store.archive import is_packed

if TYPE_CHECKING:
    from sweep.verify.subject import Subject


@click.command(short_help="Prove that a run repeats its bits, or name what differs.")
@click.argument("source", required=False, metavar="[CONFIG | DIR]")
@options.overrides
@options.seed
@click.option(
    "--steps", type=click.IntRange(1), help="Train only this many steps, for example 20. Default: a whole run."
)
@options.variant
@click.option(
    "--deterministic/--fast",
    "deterministic",
    default=None,
    help="The mode to train a config in. A directory keeps its own mode.",
)
@click.option(
    "--cost",
    "price",
    is_flag=True,
    help="Instead of a proof, time fast mode, deterministic mode and vectorised steps side by side, in ms per step.",
)
@click.option(
    "--audit", "look", is_flag=True, help="Instead of a proof, look for randomness that the seed does not control."
)
@click.option(
    "--lanes",
    type=click.IntRange(1),
    help="Instead of a proof, compare this many lanes on a GPU with runs on their own, for example 16. With vectorize, "
    "compare each row with the same row beside other seeds.",
)
@options.trust
@options.answer_json
def verify(
    source: str | None, overrides: tuple[str, ...], steps: int | None, price: bool, look: bool, lanes: int | None,
    trust: bool, as_json: bool, **asked: Any,
) -> int:  # fmt: skip
    """Train one seed in two new processes and once in this one, and compare every digest.

    The answer is `bit-exact: proven`, or the first link of the chain that differs (initial weights, data order, epoch)
    and the module where the difference began; the exit code is then 3. In fast mode, it reports how much the metrics
    differ. With a run directory, the recorded digests are compared too, and the report shows the result.
    """
    if sum((price, look, lanes is not None)) > 1:
        raise ConfigError("--cost, --audit and --lanes cannot be combined", hint="give one at a time")
    subject = _subject(source, overrides, trust=trust, lanes=lanes is not None, **asked)
    again = ["sweep", "verify", *((source,) if source is not None else ()), *overrides, *(["--trust"] if trust else [])]
    train = ["sweep", "run", *(word for word in again[2:] if word != "--trust")]
    found: Any
    if price:
        from sweep.verify.cost import cost

        found = cost(subject.spec, subject.job, steps=steps)
        return _answer(0, str(found), found.to_json(), as_json, again)
    if look:
        from sweep.verify.audit import audit

        found = audit(subject.spec, subject.job)
        return _answer(3 if found.findings else 0, str(found), found.to_json(), as_json, again)
    if lanes is not None:
        from sweep.verify.lanes import compare_lanes

        found = compare_lanes(subject.spec, lanes)
        body = {"lanes": lanes, "equal": found.equal, "summary": str(found)}
        packed = () if found.width else ("--lanes", str(lanes))
        after = [*train, *packed] if subject.store is None and found.equal else []
        return _answer(0 if found.equal else 3, str(found), body, as_json, after)
    from sweep.verify.prove import prove
    from sweep.verify.stamp import after as stamped
    from sweep.verify.stamp import outlasts, stamp_of

    proof = prove(subject.spec, subject.job, steps=steps, record=subject.record)
    store = subject.store
    if store is not None and subject.spec.deterministic and proof.status in ("proven", "differs"):
        old, new = store.manifest.stamp, stamp_of(proof, how="verify", runs=len(list(store.members())))
        if store.shown != os.fspath(store.path):
            note(f"the result is not stored in {store.shown}, because a copy of it was read")
        elif outlasts(old, new):
            note(f"the result is not stored in {store.path}, because it holds a proof of a whole run")
        elif os.access(store.path, os.W_OK):
            store.stamp(stamped(old, new))
        else:
            note(f"the result is not stored in {store.path}, because that cannot be written to")
    lines = [f"{proof.spec.key}: {proof}"]
    if proof.recorded is not None and proof.recorded.answer != "MUST_MATCH":
        lines.append(f"the record was not compared, because of its environment: {proof.recorded}")
    report = ["sweep", "report", store.shown] if store is not None else [*train, "--deterministic"]
    next_ = {"differs": [*again, "--audit"], "proven": report}.get(proof.status, [])
    code = {"proven": 0, "fast": 0, "differs": 3, "failed": 1}[proof.status]
    return _answer(code, "\n".join(lines), proof.to_json(), as_json, next_)


def _answer(code: int, text: str, body: Any, as_json: bool, words: Sequence[str]) -> int:
    """Print an answer as JSON, or as text with the words of the next command, and return its exit code."""
    if as_json:
        emit(body)
    else:
        say(text)
        if words:
            say(f"next: {shlex.join(words)}")
    return code


def _subject(
    source: str | None,
    overrides: tuple[str, ...],
    *,
    deterministic: bool | None,
    trust: bool,
    lanes: bool,
    **which: Any,
) -> Subject:
    from sweep.cli.run import configured, rebirth
    from sweep.verify.subject import of_config

    if source is not None and (os.path.isdir(source) or is_packed(source)):
        if overrides or deterministic is not None:
            raise ConfigError(
                "a directory keeps its settings, so they cannot be changed here",
                where=source,
                hint="name a config instead",
            )
        return _recorded(Path(source), trust=trust, **which)
    from sweep.prepare import prepare

    checked = configured(source, overrides, deterministic=deterministic)
    if deterministic is None and (source is None or lanes):
        checked = checked.model_copy(update={"deterministic": True})
    subject = of_config(prepare(checked), **which)
    rebirth(subject.spec.deterministic)
    return subject


def _recorded(directory: Path, *, trust: bool, **which: Any) -> Subject:
    """Return a run of a directory, in a process that can repeat its bits, and say what code it names."""
    from sweep.cli.run import rebirth
    from sweep.verify.subject import of_directory

    said: list[str] = []
    try:
        subject = of_directory(directory, trust=trust, say=said.append, **which)
        rebirth(subject.spec.deterministic)
    finally:  # not before the process starts again, or it would be said twice
        for line in said:
            note(line)
    return subject


@click.command(short_help="Train a recorded seed again and compare it with its record.")
@options.directory
@options.seed
@click.option(
    "--repeat", type=click.IntRange(0), default=0, help="The repeat of the seed, counted from 0.", show_default=True
)
@options.variant
@options.trust
@options.answer_json
def reproduce(directory: Path, trust: bool, as_json: bool, **which: Any) -> int:
    """Train one seed of a run directory again, as its record describes it, and compare the whole chain of digests.

    The directory may be a copy from another machine. The verdict says whether the two environments should give the same
    bits. Exit code 0: the bits are the same. 3: they differ, although they should not. 1: they differ, but equal bits
    were not promised.
    """
    from sweep.verify.reproduce import reproduce as again

    found = again(_recorded(directory, trust=trust, **which))
    next_ = ["sweep", "report" if found.equal else "verify", os.fspath(directory)]
    return _answer(0 if found.equal else 3 if found.broken else 1, str(found), found.to_json(), as_json, next_)
