"""`sweep verify` and `sweep reproduce`: whether the same bits come again, shown rather than promised."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli import options
from sweep.cli.output import emit, say
from sweep.errors import ConfigError
from sweep.store.archive import is_packed

if TYPE_CHECKING:
    from sweep.verify.subject import Subject


def _say(text: str) -> None:
    say(text, err=True)


@click.command(short_help="Prove that a run repeats its bits, or name what differs.")
@click.argument("source", required=False, metavar="[CONFIG | DIR]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="The seed to train, for example 123. Default: the first one."
)
@click.option(
    "--steps", type=click.IntRange(1), help="Train only this many steps, for example 20. Default: a whole run."
)
@options.variant
@click.option(
    "--deterministic/--fast",
    "deterministic",
    default=None,
    help="The mode in which to train a config. A directory keeps its own.",
)
@click.option(
    "--cost",
    "price",
    is_flag=True,
    help="Instead of a proof, time fast and deterministic mode side by side, in ms per step, and what vectorised steps "
    "would bring.",
)
@click.option(
    "--audit", "look", is_flag=True, help="Instead of a proof, look for randomness that the seed does not control."
)
@click.option(
    "--lanes",
    type=click.IntRange(1),
    help="Instead of a proof, compare this many lanes on a GPU with runs on their own, for example 16. With vectorize, "
    "compare rows with themselves in other company.",
)
@options.trust
@options.answer_json
def verify(
    source: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    steps: int | None,
    variant: str | None,
    deterministic: bool | None,
    price: bool,
    look: bool,
    lanes: int | None,
    trust: bool,
    as_json: bool,
) -> int:
    """Train one seed in two new processes and once in this one, and compare every digest.

    The answer is `bit-exact: proven`, or the first link of the chain that differs (initial weights, data order, epoch)
    and the module where the difference began; the exit code is then 3. In fast mode it says how far apart the runs
    ended. With a run directory, the recorded digests are compared too, and the report shows the result.
    """
    if sum((price, look, lanes is not None)) > 1:
        raise ConfigError("--cost, --audit and --lanes are three questions", hint="ask one at a time")
    subject = _subject(source, overrides, seed, variant, deterministic, trust, lanes is not None)
    again = ["sweep", "verify", *((source,) if source is not None else ()), *overrides, *(["--trust"] if trust else [])]
    if price:
        return _cost(subject, steps, as_json, again)
    if look:
        return _audit(subject, as_json, again)
    if lanes is not None:
        return _lanes(subject, lanes, as_json, again)
    from sweep.verify.prove import prove
    from sweep.verify.stamp import after, stamp_of

    proof = prove(subject.spec, subject.job, steps=steps, record=subject.record)
    store = subject.store
    if store is not None and subject.spec.deterministic and proof.status in ("proven", "differs"):
        if store.shown != os.fspath(store.path):
            _say(f"{store.shown} is read as a copy: it is not stamped")
        elif os.access(store.path, os.W_OK):
            store.stamp(after(store.manifest.stamp, stamp_of(proof, how="verify", runs=len(list(store.members())))))
        else:
            _say(f"{store.path} is not writable: it is not stamped")
    if as_json:
        emit(proof.to_json())
    else:
        say(f"{proof.spec.key}: {proof}")
        if proof.recorded is not None and proof.recorded.answer != "MUST_MATCH":
            say(f"the record was not compared: its environment answers {proof.recorded}")
        if proof.status == "differs":
            _next([*again, "--audit"])
        elif proof.status == "proven":
            _next(["sweep", "report", store.shown] if store is not None else [*_run(again), "--deterministic"])
    return {"proven": 0, "fast": 0, "differs": 3, "failed": 1}[proof.status]


def _subject(
    source: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    variant: str | None,
    deterministic: bool | None,
    trust: bool,
    lanes: bool,
) -> Subject:
    from sweep.verify.subject import of_config, of_directory

    if source is not None and (os.path.isdir(source) or is_packed(source)):
        if overrides or deterministic is not None:
            raise ConfigError(
                "a directory has its settings in its records", where=source, hint="to change them, name a config"
            )
        subject = of_directory(Path(source), seed=seed, variant=variant, trust=trust, say=_say)
    else:
        from sweep.cli.run import configured
        from sweep.prepare import prepare

        checked = configured(source, overrides, deterministic=deterministic)
        if deterministic is None and not checked.deterministic and (source is None or lanes):
            checked = configured(source, overrides, deterministic=True)
        subject = of_config(prepare(checked), seed=seed, variant=variant)
    from sweep.cli.run import rebirth

    rebirth(subject.spec.deterministic)
    return subject


def _next(words: Sequence[str]) -> None:
    """What to type next."""
    say(f"next: {shlex.join(words)}")


def _run(verify: Sequence[str]) -> list[str]:
    """`sweep verify CONFIG …` as `sweep run CONFIG …`."""
    return ["sweep", "run", *(word for word in verify[2:] if word != "--trust")]


def _cost(subject: Subject, steps: int | None, as_json: bool, again: Sequence[str]) -> int:
    from sweep.verify.cost import cost

    found = cost(subject.spec, subject.job, steps=steps)
    if as_json:
        emit(found.to_json())
    else:
        say(str(found))
        _next(again)
    return 0


def _audit(subject: Subject, as_json: bool, again: Sequence[str]) -> int:
    from sweep.verify.audit import audit

    found = audit(subject.spec, subject.job)
    if as_json:
        emit(found.to_json())
    else:
        say(str(found))
        _next(again)
    return 3 if found.findings else 0


def _lanes(subject: Subject, lanes: int, as_json: bool, again: Sequence[str]) -> int:
    from sweep.verify.lanes import compare_lanes

    found = compare_lanes(subject.spec, lanes)
    if as_json:
        emit({"lanes": lanes, "equal": found.equal, "summary": str(found)})
    else:
        say(str(found))
        if subject.store is None and found.equal:
            _next([*_run(again), *(() if found.width else ("--lanes", str(lanes)))])
    return 0 if found.equal else 3


@click.command(short_help="Train a recorded seed again and compare it with its record.")
@options.directory
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="The seed to train, for example 123. Default: the first one."
)
@click.option(
    "--repeat", type=click.IntRange(0), default=0, help="The repeat of the seed, counted from 0.", show_default=True
)
@options.variant
@options.trust
@options.answer_json
def reproduce(directory: Path, seed: int | None, repeat: int, variant: str | None, trust: bool, as_json: bool) -> int:
    """Train one seed of a run directory again, as its record describes it, and compare the whole chain of digests.

    The directory may be a copy from another machine. The verdict says whether the two environments should give the same
    bits. Exit code 0: the bits are the same. 3: they differ, although they should not. 1: they differ, as they may.
    """
    from sweep.cli.run import rebirth
    from sweep.verify.reproduce import reproduce as again
    from sweep.verify.subject import of_directory

    subject = of_directory(directory, seed=seed, variant=variant, repeat=repeat, trust=trust, say=_say)
    rebirth(subject.spec.deterministic)
    found = again(subject)
    if as_json:
        emit(found.to_json())
    else:
        say(str(found))
        _next(["sweep", "report" if found.equal else "verify", os.fspath(directory)])
    return 0 if found.equal else 3 if found.broken else 1
