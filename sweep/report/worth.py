"""What the ensemble of a directory is worth: gathered, assessed, and held with what was asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sweep import ensemble
from sweep.analysis.findings import identical
from sweep.ensemble.assess import Assessment, columns, to_json
from sweep.ensemble.gather import Unused, choose, gather_all
from sweep.ensemble.select import Metric
from sweep.errors import EnsembleError
from sweep.stats.planning import expected_best
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Worth:
    """The ensemble of one variant and task on one split. A prompt shows it as text, a notebook as HTML.

    planned: members asked for, absent ones included. enough: (metric, margin, k): k members are within the
    margin of all. unused: splits that were not read. called: the variant as reports call it. options: what chooses
    these members on a command line. identical: members of different seeds that gave the very same result.
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
        from sweep.report.worth_view import notes

        return notes(self)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per example, by id: id, target, prediction, p0, … or std, total, aleatoric, epistemic.

        p0, …: probabilities. Uncertainties are entropies in nats, or variances in squared units of the target;
        classification has the variation ratio as well. `attrs["notes"]` holds the notes, here as in the other frames.
        """
        return self._frame(columns(self.assessment))

    @property
    def scores(self) -> pd.DataFrame:
        """One row per metric: members_mean, best (chosen after the fact), best_member, ensemble, difference."""
        return self._frame([vars(row) for row in self.assessment.scores]).set_index("metric")

    @property
    def differences(self) -> pd.DataFrame:
        """One row per metric: the (calibrated) ensemble minus its single members, with both intervals."""
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
        """Plain data without the rows of examples; floats may be NaN or infinite.

        best_inflation_sd: by how many sd of the members the best of so many lies from their mean by chance alone.
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
        from sweep.report import document, worth_view

        return document.text(worth_view.view(self), width=100)

    def _repr_html_(self) -> str:
        from sweep.report import document, worth_view

        return document.notebook(worth_view.view(self))


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
    disputed: int = 10,
) -> Worth:
    """Build the ensemble of a directory's finished members and assess it on `split`.

    variant, task: needed where there are several. members: seeds or labels (`seed42`). calibrate: predictions
    and frame are the calibrated ones. select: greedy selection on val by this metric ("greedy": by NLL).
    margin: how many members are enough, in the unit of a metric (NLL, or RMSE), or one for each metric.
    Calibration is fitted on val where all members predicted it; splits beside train, val and test that all
    members predicted are scored as well.

    Raises: EnsembleError for members that are absent (unless allow_missing) or do not match.
    """
    chosen = choose(store, variant=variant, task=task, members=members)
    found = gather_all(store, chosen, split, allow_missing=allow_missing)
    made = ensemble.assess(
        found.members, val=found.val, extra=found.extra, calibrated=calibrate,
        select="nll" if select == "greedy" else select, level=level, disputed=disputed,
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
