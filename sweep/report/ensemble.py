"""The report of an ensemble: its members are gathered and assessed, and the verdict comes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sweep import ensemble
from sweep.analysis.findings import identical
from sweep.analysis.remarks import Remark
from sweep.ensemble.assess import Assessment, Classification, columns, mean_of, to_json
from sweep.ensemble.calibrate import Calibration
from sweep.ensemble.evidence import Difference
from sweep.ensemble.gather import Unused, choose, gather_all
from sweep.ensemble.members import listing
from sweep.ensemble.select import Metric
from sweep.errors import EnsembleError, listed
from sweep.goals import direction, with_arrow
from sweep.number import limits, number, percent, places, signed
from sweep.report import document
from sweep.report.document import Document, Note, Section, Table
from sweep.report.remarks import said_of
from sweep.stats.planning import expected_best
from sweep.store import Store
from sweep.words import path_argument, plural, quoted

if TYPE_CHECKING:
    import pandas as pd

NAMES = {"nll": "NLL", "ece": "ECE", "auroc": "AUROC", "aurc": "risk-coverage area", "brier": "Brier", "mse": "MSE",
         "rmse": "RMSE", "crps": "CRPS"}  # fmt: skip
GOALS = {"aurc": "min"}
MOST_SIZES = 7


@dataclass(frozen=True, repr=False)
class Worth:
    """The ensemble of one variant and task on one split. A prompt shows it as text, a notebook as HTML.

    planned: members asked for, including missing ones. enough: (metric, margin, k), so that k members are within the
    margin of all. unused: splits that were not read. called: the label of the variant. options: those that choose
    these members on a command line. identical: members of different seeds that gave exactly the same result.
    """

    name: str
    directory: str
    variant: str
    task: str
    planned: int
    assessment: Assessment
    enough: tuple[tuple[str, float, int], ...] = ()
    unused: tuple[Unused, ...] = ()
    called: str = ""
    options: tuple[str, ...] = ()
    identical: tuple[tuple[str, ...], ...] = ()

    @property
    def notes(self) -> list[str]:
        """Return the warnings that every output prints, as sentences."""
        return notes(self)

    @property
    def frame(self) -> pd.DataFrame:
        """Return one row per example, by id: id, target, prediction, p0, … or std, total, aleatoric, epistemic.

        p0, …: probabilities. Uncertainties are entropies in nats, or variances in squared units of the target;
        classification also has the variation ratio. `attrs["notes"]` holds the notes, as in the other frames.
        """
        return self._frame(columns(self.assessment))

    @property
    def scores(self) -> pd.DataFrame:
        """Return one row per metric: members_mean, best (chosen after the fact), best_member, ensemble, difference."""
        return self._frame([vars(row) for row in self.assessment.scores]).set_index("metric")

    @property
    def differences(self) -> pd.DataFrame:
        """Return one row per metric: the (calibrated) ensemble minus its single members, with both intervals."""
        none = (float("nan"), float("nan"))
        rows = [
            {
                "metric": one.metric, "calibrated": one.calibrated, "ensemble": one.ensemble,
                "members_mean": one.members_mean, "difference": one.value,
                **dict(zip(("low", "high"), one.examples or none, strict=True)),
                **dict(zip(("low_seeds", "high_seeds"), one.seeds or none, strict=True)),
            }
            for one in self.assessment.differences
        ]  # fmt: skip
        return self._frame(rows).set_index("metric")

    def _frame(self, rows: Any) -> pd.DataFrame:
        import pandas as pd

        frame = pd.DataFrame(rows)
        frame.attrs["notes"] = self.notes
        return frame

    def to_json(self) -> dict[str, Any]:
        """Return plain data without the rows of examples; floats may be NaN or infinite.

        best_inflation_sd: how far the best member is expected to lie from their mean by chance, in sd of the members.
        """
        return {
            "name": self.name, "directory": self.directory, "variant": self.variant, "task": self.task,
            "planned": self.planned, **to_json(self.assessment),
            "unused": [
                {"split": one.split, "lacking": list(one.lacking), "refused": one.refused and one.refused.what}
                for one in self.unused
            ],
            "identical": [list(group) for group in self.identical],
            "best_inflation_sd": expected_best(len(self.assessment.labels)),
            "enough": [{"metric": m, "margin": margin, "members": k} for m, margin, k in self.enough],
        }  # fmt: skip

    def __repr__(self) -> str:
        return document.text(view(self), width=100)

    def _repr_html_(self) -> str:
        return document.notebook(view(self))


def worth(
    store: Store,
    *,
    split: str = "test",
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
    allow_missing: bool = False,
    calibrate: bool = False,
    select: Metric | Literal["greedy"] | None = None,
    margin: float | Mapping[str, float] | None = None,
    level: float = 0.95,
) -> Worth:
    """Build the ensemble of the finished members of a directory and assess it. Arguments as in `Results.ensemble`.

    Splits other than train, val and test are also scored, if all members predicted them.
    """
    chosen = choose(store, variant=variant, task=task, members=members)
    found = gather_all(store, chosen, split, allow_missing=allow_missing)
    made = ensemble.assess(
        found.members, val=found.val, extra=found.extra, calibrated=calibrate,
        select="nll" if select == "greedy" else select, level=level,
    )  # fmt: skip
    options = [*chosen.options]
    if members is not None:
        options += ["--members", ",".join(str(name).removeprefix("seed") for name in members)]
    if found.members.missing:
        options.append("--allow-missing")
    return Worth(
        store.manifest.name, store.shown, chosen.variant, chosen.task, len(chosen.runs) + len(chosen.missing), made,
        _enough(made, margin), found.unused, chosen.called, tuple(options),
        identical(one for label, one in chosen.runs if label in made.labels),
    )  # fmt: skip


def _enough(made: Assessment, margin: float | Mapping[str, float] | None) -> tuple[tuple[str, float, int], ...]:
    if margin is None:
        return ()
    curves = {one.metric: one for one in made.curves}
    usual = "nll" if made.kind == "classification" else "rmse"
    asked = margin if isinstance(margin, Mapping) else {usual: margin}
    unknown = [name for name in asked if name not in curves]
    if unknown:
        raise EnsembleError(f"there is no size curve of {unknown[0]!r}", hint=f"choose one of {', '.join(curves)}")
    return tuple((name, float(value), ensemble.enough(curves[name], value)) for name, value in asked.items())


# ---- words


def view(found: Worth, exported: str = "") -> Document:
    """Return the whole view of an ensemble. exported: the file that was just written."""
    made = found.assessment
    first = [Note(verdict(found), "lead"), *(Note(note, "warning") for note in notes(found))]
    sections = [Section("", first), Section("scores", [_scores(made)]), Section("evidence", [_evidence(made)])]
    if made.calibration is not None:
        sections.append(Section("calibration", [_calibration(made, made.calibration)]))
    if isinstance(made, Classification) and made.selection is not None:
        sections.append(Section("greedy selection", [_selection(made)]))
    sections.append(Section("uncertainty", [*_uncertainty(made), *_disputed(made)]))
    sections.append(Section("number of members", [_sizes(found)]))
    if made.extra:
        sections.append(Section("test sets", [_extra(made)]))
    last = [Note(command, "command", "next") for command in next_commands(found, exported)]
    sections.append(Section("", [Note(verdict(found), "lead"), *last]))
    return Document(_title(found), sections)


def _title(found: Worth) -> str:
    made = found.assessment
    of = "".join(f", {part}" for part in (found.task, found.called) if part)
    whole = len(made.labels) == found.planned
    count = plural(found.planned, "member") if whole else f"{len(made.labels)} of {found.planned} members"
    return f"{found.name}{of}: an ensemble of {count} on {made.split}, {plural(len(made.ids), 'example')}"


def verdict(found: Worth) -> str:
    """Return the evidence as a sentence, on the calibrated ensemble only if calibration makes no score worse."""
    made = found.assessment
    fitted = made.calibration
    lead = [d for d in made.differences if d.metric == "nll" and d.calibrated] if fitted and fitted.recommended else []
    one = next(iter(lead), made.differences[0])
    which = "calibrated " if one.calibrated else ""
    low, high = one.examples or (0.0, 0.0)
    better, worse = (low > 0, high < 0) if direction(one.metric, GOALS) == "max" else (high < 0, low > 0)
    said = "better than" if better else "worse than" if worse else "not distinguishable from"
    scale = places(_half(one))
    over = f"{percent(one.level)} CI {limits(low, high, scale, sign=True)} over examples, given these members"
    ensemble, members = number(one.ensemble, scale), number(one.members_mean, scale)
    return (
        f"The {which}ensemble is {said} {which}single members: {_name(one.metric)} {ensemble} against {members}, "
        f"{signed(one.value, scale)} ({over if one.examples else 'no interval'})"
    )


def notes(found: Worth) -> list[str]:
    """Return the warnings of every output, as sentences."""
    said = [said_of(Remark("identical results", {"runs": group})) for group in found.identical]
    said += notes_of(found.assessment)
    for one in found.unused:
        use = "val was not used" if one.split == "val" else f"{one.split} is not scored"
        why = one.refused.what if one.refused else f"{listed(list(one.lacking))} saved no predictions for it"
        said.append(f"{use}: {why}")
    return said


def notes_of(made: Assessment) -> list[str]:
    """Return the warnings about an assessment."""
    said: list[str] = []
    if made.missing:
        said.append(f"built without {listing(made.missing)}")
    if len(made.labels) < 3:
        said.append("there is no interval over seeds with only 2 members")
    if isinstance(made, Classification) and (zero := made.impossible) is not None:
        pooled = f", the ensemble as a whole to that of {zero.by_all}" if zero.by_all else ""
        said.append(
            f"NLL is infinite: {listed(list(zero.members))} gave probability 0 to the target of {zero.examples} of "
            f"{len(made.ids)} examples{pooled}; compare by accuracy and Brier"
        )
    if (fitted := made.calibration) is not None:
        if fitted.worse:
            scores = [f"{_name(k)} {number(fitted.before[k], 4)} → {number(fitted.after[k], 4)}" for k in fitted.worse]
            said.append(f"calibration makes the ensemble worse ({', '.join(scores)}): use it uncalibrated")
        if fitted.at_bound:
            said.append(
                f"the {fitted.parameter} is at the end of its range: the scores have no minimum within it, so do "
                "not rely on the calibrated predictions"
            )
    if isinstance(made, Classification) and (chosen := made.selection) is not None and not chosen.better:
        name = chosen.metric
        said.append(
            f"greedy selection is not better than the uniform average: {_name(name)} {number(chosen.greedy[name], 4)} "
            f"against {number(chosen.uniform[name], 4)}"
        )
    return said


def _scores(made: Assessment) -> Table:
    rows = []
    for row in made.scores:
        scale = _fine(row.difference)
        best = "—" if row.best is None else f"{number(row.best, scale)} ({row.best_member})"
        mark = "*" if row.by_construction else "†" if row.metric == "ece" else ""
        cells = (number(row.members_mean, scale), best, number(row.ensemble, scale), signed(row.difference, scale))
        rows.append((_metric(row.metric) + mark, *cells))
    count = len(made.labels)
    said = ["* never worse than the members' mean by construction: no evidence"]
    if made.kind == "classification":
        said.append("† biased on few examples, so it has no interval")
    if any(row.ensemble is None for row in made.scores):
        said.append("AUROC needs examples of every class")
    said.append(
        f"best: chosen after the fact; by chance alone, the best of {count} members is expected "
        f"{number(expected_best(count), 2)} sd from their mean"
    )
    return Table(("", "members' mean", "best", "ensemble", "difference"), rows, notes=said)


def _evidence(made: Assessment) -> Table:
    rows = []
    for one in made.differences:
        scale = places(_half(one))
        ends = [limits(*pair, scale, sign=True) if pair else "none" for pair in (one.examples, one.seeds)]
        which = _metric(one.metric) + ("°" if one.calibrated else "")
        rows.append(
            (which, number(one.ensemble, scale), number(one.members_mean, scale), signed(one.value, scale), *ends)
        )
    ci = f"{percent(made.level)} CI"
    both = any(one.calibrated for one in made.differences)
    said = ["examples: paired, given these members; seeds: delete-one jackknife, these test examples"]
    if both:
        said.append("° both sides calibrated, each on examples it is not scored on")
    elif made.kind == "classification":
        said.append("a gain in Brier is never negative by construction")
    header = ("", "ensemble", "members", "difference", f"{ci}, examples", f"{ci}, seeds")
    return Table(header, rows, notes=said)


def _beside(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str]]:
    return [
        (_metric(name), number(value, scale), number(after[name], scale))
        for name, value in before.items() if (scale := _fine(after[name] - value))
    ]  # fmt: skip


def _calibration(made: Assessment, found: Calibration) -> Table:
    used = f"{found.parameter} {number(found.served, 3)}"
    if found.parameter == "temperature":
        used += " (above 1: it was overconfident)" if found.served > 1 else " (below 1: it was underconfident)"
    shows = "calibrated" if made.calibrated else "raw"
    said = f"{used}, {source(found)}; the predictions listed are the {shows} ones"
    return Table(("", "raw", "calibrated"), _beside(found.before, found.after), notes=[said])


def source(found: Calibration) -> str:
    """Return "fitted on val" or "cross-fitted in 5 folds of test"."""
    return f"{f'cross-fitted in {found.folds} folds of' if found.folds else 'fitted on'} {found.fitted_on}"


def _selection(made: Classification) -> Table:
    assert made.selection is not None
    found = made.selection
    taken = [f"{label} x{k}" if k > 1 else label for label, k in zip(made.labels, found.counts, strict=True) if k]
    said = f"with replacement, by {_name(found.metric)} on {found.fitted_on}, took {listed(taken, 12)}"
    return Table((f"on {made.split}", "uniform", "greedy"), _beside(found.uniform, found.greedy), notes=[said])


def _uncertainty(made: Assessment) -> Iterator[Note]:
    unsure = made.uncertainty
    total, epistemic = (number(float(part.mean()), 4) for part in (unsure.total, unsure.epistemic))
    aleatoric = "" if unsure.aleatoric is None else number(float(unsure.aleatoric.mean()), 4)
    if isinstance(made, Classification):
        yield Note(f"mean entropy {total} nats = {aleatoric} aleatoric + {epistemic} epistemic (mutual information)")
        right = made.prediction == made.targets
        if right.any() and not right.all():
            means = [number(float(unsure.total[which].mean()), 3) for which in (right, ~right)]
            wrong = f"{int((~right).sum())} of {len(right)}"
            yield Note(f"mean entropy {means[0]} where the ensemble is right, {means[1]} where it is wrong ({wrong})")
        share, kappa = percent(mean_of(made.disagreement)), number(mean_of(made.kappa), 3)
        yield Note(f"two members disagree on {share} of the examples (kappa {kappa})")
        return
    parts = (
        f"= {aleatoric} aleatoric + {epistemic} epistemic"
        if aleatoric
        else "= epistemic, because members gave no variance"
    )
    yield Note(f"mean variance {total} squared units {parts} (variance of means)")
    yield Note(f"two members differ by {number(mean_of(made.rms_difference), 4)} on average (root mean square)")


def _disputed(made: Assessment) -> Iterator[Table]:
    decimals = 0 if made.kind == "classification" else None
    rows = [
        (str(one.id), number(one.target, decimals), number(one.prediction, decimals), number(one.total, 3),
         number(one.aleatoric, 3), number(one.epistemic, 3))
        for one in made.disputed
    ]  # fmt: skip
    if rows:
        yield Table(("most disputed, by id", "target", "prediction", "total", "aleatoric", "epistemic"), rows)


def _sizes(found: Worth) -> Table:
    made = found.assessment
    count = len(made.labels)
    sizes = sorted({round(float(k)) for k in np.geomspace(1, count, MOST_SIZES)})
    sizes = list(range(1, count + 1)) if count <= MOST_SIZES else sizes
    rows = []
    for one in made.curves:
        errors = one.error[np.isfinite(one.error) & (one.error > 0)]
        scale = _fine(float(errors.min())) if errors.size else 4
        rows.append((_metric(one.metric), *(number(float(one.value[k - 1]), scale) for k in sizes)))
        if errors.size:
            half = (one.high - one.low) / 2
            rows.append((f"± {percent(one.level)} CI", *(number(float(half[k - 1]), scale) for k in sizes)))
    said = ["expected score of a random ensemble of this many of these members, ± over seeds (delete-one jackknife)"]
    noise = [f"{_name(one.metric)} {one.noise.max():.1g}" for one in made.curves if one.noise.max() > 0]
    if noise:
        said.append(f"where not every subset is scored, the standard error is at most {', '.join(noise)}")
    said += [
        f"{k} of {count} are enough to stay within {margin:g} of all {count} in {_name(metric)}"
        for metric, margin, k in found.enough
    ] or ["how many are enough? --margin names the loss you accept, e.g. --margin 0.005"]
    return Table(("members", *map(str, sizes)), rows, notes=said)


def _extra(made: Assessment) -> Table:
    names = [row.metric for row in made.scores if row.metric in ("accuracy", "nll", "ece", "rmse", "crps")]
    total, epistemic = (float(part.mean()) for part in (made.uncertainty.total, made.uncertainty.epistemic))
    sets = [(made.split, len(made.ids), made.scores, total, epistemic)]
    sets += [(one.name, one.examples, one.scores, one.total, one.epistemic) for one in made.extra]
    rows = []
    for name, examples, scores, *unsure in sets:
        of = {row.metric: row.ensemble for row in scores}
        rows.append((name, str(examples), *(number(of.get(k), 4) for k in names), *(number(u, 4) for u in unsure)))
    header = ("the ensemble on", "examples", *map(_metric, names), "total", "epistemic")
    return Table(header, rows, notes=["total, epistemic: mean uncertainty; the temperature is the one above"])


def next_commands(found: Worth, exported: str = "") -> tuple[str, ...]:
    """Return the next commands."""
    where = " ".join([path_argument(found.directory), *map(quoted, found.options)])
    fitted = found.assessment.calibration
    wanted = fitted is not None and fitted.recommended and not found.assessment.calibrated
    first = "--calibrate --export ensemble.pt2" if wanted else "--export ensemble.pt2"
    serve = f"sweep predict {where} inputs.npz --out predictions.npz"
    split = "" if found.assessment.split == "test" else f"--split {quoted(found.assessment.split)} "
    return (serve,) if exported else (f"sweep ensemble {where} {split}{first}", serve)


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _metric(metric: str) -> str:
    return with_arrow(_name(metric), direction(metric, GOALS))


def _half(one: Difference) -> float | None:
    widths = [(high - low) / 2 for low, high in filter(None, (one.examples, one.seeds))]
    return min(widths) if widths else None


def _fine(difference: float | None) -> int:
    """Return the decimals that show a difference, 3 to 6."""
    return min(max(places(abs(difference or 0.0)) or 4, 3), 6)
