"""`sweep ensemble` and `sweep predict`: the members of a directory as one model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli import options
from sweep.cli.output import emit, note, say, show_document
from sweep.errors import ConfigError, EnsembleError
from sweep.store import Store

if TYPE_CHECKING:
    from sweep.ensemble.load import Loaded

_WHICH = ("variant", "task", "members", "allow_missing")
_members = click.option(
    "--members", "chosen", multiple=True, metavar="SEEDS", help="Use only these seeds, for example 42,123 or 0-4."
)


@click.command(short_help="Score all members as one model, or export it.")
@options.directory
@options.split("score")
@_members
@options.allow_missing
@options.variant
@options.task
@click.option("--calibrate", is_flag=True, help="List the calibrated predictions instead of the raw ones.")
@click.option(
    "--select",
    type=click.Choice(["greedy"]),
    help="In addition to the uniform average, weight the members by their predictions on val.",
)
@click.option("--margin", multiple=True, metavar="[METRIC=]X",
              help="Report how many members are enough to lose no more than X, for example 0.001 or accuracy=0.002. "
              "Default metric: NLL, or RMSE for regression.")  # fmt: skip
@options.level()
@click.option("--export", "out", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the ensemble to one .onnx or .pt2 file. It is kept only if it gives the predictions of the "
              "members.")  # fmt: skip
@options.formats("md")
@options.trust
def ensemble(
    directory: Path, chosen: tuple[str, ...], margin: tuple[str, ...], out: Path | None, format_: str, trust: bool,
    **asked: Any,
) -> int:  # fmt: skip
    """Average the members' stored predictions, matched by example id, and score the average beside its members.

    The report says what the average gains beyond what averaging guarantees (calibrated against calibrated, paired by
    example), how uncertain each example is and why, how many members are enough, and on which examples they disagree.
    No model runs, except with --export, which rebuilds the members.
    """
    from sweep.report.ensemble import view, worth

    asked["members"] = labels(chosen)
    found = worth(Store.open(directory), margin=margins(margin), **asked)
    if out is not None:
        _export(directory, out, trust, {key: asked[key] for key in (*_WHICH, "split")})
    if format_ == "json":
        emit({**found.to_json(), "exported": None if out is None else str(out)})
        return 0
    show_document(view(found, "" if out is None else str(out)), format_)
    return 0


def _export(directory: Path, out: Path, trust: bool, which: dict[str, Any]) -> None:
    from sweep.ensemble.program import SUFFIXES, export

    if out.suffix not in SUFFIXES:  # before the models are rebuilt
        raise EnsembleError(
            f"the format of {out.name} is not known", where="--export",
            hint=f"let its name end in {' or '.join(SUFFIXES)}",
        )  # fmt: skip
    loaded = _loaded(directory, trust, **which)
    if loaded.rows is None:
        raise EnsembleError(
            "there are no stored inputs to check the file with", where=str(directory),
            hint="give some in Python: sweep.ensemble.program.export(ensemble, FILE, rows)",
        )  # fmt: skip
    export(loaded.ensemble, out, loaded.rows.inputs)
    about = loaded.ensemble.about
    note(
        f"wrote {out}: {len(about.labels)} members, any batch size, calibrated and raw outputs; it repeats the "
        f"members' predictions of {len(loaded.rows.inputs)} examples of {which['split']}"
    )
    for each in about.notes:
        note(f"{out}: {each}")


@click.command(short_help="Predict a file of new inputs with all members at once.")
@options.directory
@click.argument("inputs", type=click.Path(path_type=Path), metavar="INPUT")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The .npz or .npy file to write."
)
@_members
@options.allow_missing
@options.variant
@options.task
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="How many examples to predict at a time. Default: as many as fit into bounded memory.",
)
@options.answer_json
@options.trust
def predict(
    directory: Path, inputs: Path, out: Path, chosen: tuple[str, ...], batch: int | None, as_json: bool, trust: bool,
    **which: Any,
) -> int:  # fmt: skip
    """Predict new inputs with all members. The inputs are raw, as they were before normalisation.

    INPUT is an .npy file, or an .npz file with an array `inputs` or `x` (and optionally `ids`, which are kept). An .npz
    FILE gets mean and calibrated predictions and the total, aleatoric and epistemic uncertainty of each example; an
    .npy FILE gets only the calibrated predictions. The members are first checked against their stored predictions.
    """
    from sweep.ensemble.predict import predict_file

    loaded = _loaded(directory, trust, members=labels(chosen), **which)
    told = predict_file(loaded.ensemble, inputs, out, batch=batch)
    about = loaded.ensemble.about
    if as_json:
        emit({
            "out": str(out), "examples": told.examples, "members": list(about.labels), "notes": list(about.notes),
            "arrays": {name: list(shape) for name, shape in told.arrays.items()},
        })  # fmt: skip
        return 0
    arrays = ", ".join(f"{name} {shape}" for name, shape in told.arrays.items())
    say(f"wrote {out}: {told.examples} examples, {len(about.labels)} members; {arrays}")
    for each in about.notes:
        say(f"note: {each}")
    entry = "" if out.suffix == ".npy" else "['calibrated']"
    say(f'next: python -c "import numpy; print(numpy.load({str(out)!r}){entry}[:3])"')
    return 0


def _loaded(directory: Path, trust: bool, *, allow_missing: bool, split: str = "test", **which: Any) -> Loaded:
    """Return the served ensemble; print on stderr what would be imported, and what could not be checked."""
    from sweep.ensemble.gather import choose
    from sweep.ensemble.load import load

    store = Store.open(directory)
    chosen = choose(store, **which)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        found = load(store, chosen, split, allow_missing=allow_missing, trust=trust, say=note)
    for one in caught:
        note(f"warning: {one.message}")
    return found


def labels(chosen: Sequence[str]) -> list[str | int] | None:
    """Return seeds as `--members` takes them, several times or once: "42,123", "0-4", "seed7". Raises: ConfigError."""
    from sweep.seeds import parse_seeds

    words = [word.strip().removeprefix("seed") for text in chosen for word in text.split(",")]
    return list(parse_seeds(words, "--members")) if words else None


def margins(asked: Sequence[str]) -> float | dict[str, float] | None:
    """Return "0.005", or a margin for each metric: "nll=0.005", "accuracy=0.002". Raises: ConfigError."""
    pairs = [text.rpartition("=") for text in asked]
    try:
        found = {name: float(value) for name, _, value in pairs}
    except ValueError:
        raise ConfigError(
            f"{', '.join(asked)} is not a margin", where="--margin", hint="write 0.005 or nll=0.005"
        ) from None
    if "" in found:
        if len(found) > 1:
            raise ConfigError(
                "several margins need their metrics", where="--margin", hint="write for example nll=0.005"
            )
        return found[""]
    return found or None
