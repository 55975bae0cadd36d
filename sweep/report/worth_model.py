"""An ensemble's worth as data: everything its text, tables and JSON say, and the frames of a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.ensemble import Assessment
from sweep.stats.planning import expected_best

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Worth:
    """The ensemble of one variant and task on one split.

    planned: members asked for, absent ones included. enough: (metric, margin, k): k members are within the
    margin of all. notes: sentences that every output prints.
    """

    name: str
    directory: str
    variant: str
    task: str
    planned: int
    assessment: Assessment
    enough: tuple[tuple[str, float, int], ...]
    notes: tuple[str, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """A row an example, by id: id, target, prediction, probabilities (p0, …) or std, total, aleatoric, epistemic.

        Uncertainties are entropies in nats, or variances in squared units of the target; classification has
        the variation ratio as well. `attrs["notes"]` holds the notes, here and in the other two frames.
        """
        import pandas as pd

        return self._noted(pd.DataFrame(self.assessment.columns()))

    @property
    def scores(self) -> pd.DataFrame:
        """A row a metric: members_mean, best (chosen after the fact), best_member, ensemble, difference, label."""
        import pandas as pd

        rows = [vars(row) for row in self.assessment.scores]
        return self._noted(pd.DataFrame(rows).set_index("metric"))

    @property
    def differences(self) -> pd.DataFrame:
        """A row a metric: the (calibrated) ensemble minus its single members, with both intervals."""
        import pandas as pd

        rows = [
            {
                "metric": one.metric, "calibrated": one.calibrated, "ensemble": one.ensemble,
                "members_mean": one.members_mean, "difference": one.value,
                "low": _end(one.examples, 0), "high": _end(one.examples, 1),
                "low_seeds": _end(one.seeds, 0), "high_seeds": _end(one.seeds, 1),
            }
            for one in self.assessment.differences
        ]  # fmt: skip
        return self._noted(pd.DataFrame(rows).set_index("metric"))

    def _noted(self, frame: pd.DataFrame) -> pd.DataFrame:
        frame.attrs["notes"] = list(self.notes)
        return frame

    def to_json(self) -> dict[str, Any]:
        """Plain data without the rows of examples; floats may be NaN or infinite.

        best_inflation_sd: by how many sd of the members the best of so many lies from their mean by chance alone.
        """
        body = self.assessment.to_json()
        return {
            "name": self.name, "directory": self.directory, "variant": self.variant, "task": self.task,
            "planned": self.planned, **body, "notes": list(self.notes),
            "best_inflation_sd": expected_best(len(self.assessment.labels)),
            "enough": [{"metric": m, "margin": margin, "members": k} for m, margin, k in self.enough],
        }  # fmt: skip


def _end(interval: tuple[float, float] | None, which: int) -> float:
    return float("nan") if interval is None else interval[which]
