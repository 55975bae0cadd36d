"""The ensembles of a directory as the HTML report shows them: scores, evidence, curves, calibration, uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sweep import ensemble
from sweep.ensemble import Assessment, Classification
from sweep.ensemble.assess import mean_of
from sweep.ensemble.gather import gather
from sweep.errors import SweepError
from sweep.number import number, percent
from sweep.report import charts
from sweep.report.model import Report, Together
from sweep.report.words import plural
from sweep.report.worth_view import notes_of, source
from sweep.store import Store

MOST = 4  # ensembles assessed in full; of further ones the scores alone
ENTRIES = 40_000_000  # members x examples x classes beyond which the assessment is left to `sweep ensemble`


@dataclass(frozen=True)
class Pooled:
    """One ensemble: its scores, and where it was assessed in full the pictures with their words."""

    of: Together
    found: Assessment | None
    sizes: tuple[tuple[str, Markup], ...] = ()
    reliability: Markup | None = None
    legend: tuple[tuple[int, str], ...] = ()
    calibrated: str = ""
    risk: Markup | None = None
    area: str = ""
    matrix: Markup | None = None
    apart: str = ""
    histograms: tuple[tuple[str, Markup], ...] = ()
    classes: bool = True
    notes: tuple[str, ...] = ()


def pooled(store: Store, report: Report) -> Iterator[Pooled]:
    """Every ensemble that the report scored, the first few assessed in full."""
    assessed = 0
    for one in report.together:
        if one.reason or assessed >= MOST:
            yield Pooled(one, None)
            continue
        assessed += 1
        yield _assessed(store, one, report.level)


def _assessed(store: Store, one: Together, level: float) -> Pooled:
    try:
        members = gather(store, one.split, variant=one.variant, task=one.task, allow_missing=True)
        if members.size > 8 * ENTRIES:
            return Pooled(one, None, notes=("sweep ensemble assesses it in full",))
        val = None
        if one.split != "val" and not members.missing:
            try:
                val = gather(store, "val", variant=one.variant, task=one.task)
            except SweepError:
                val = None  # without it calibration is cross-fitted, and says so
        found = ensemble.assess(members, val=val, level=level)
    except SweepError as error:
        return Pooled(one, None, notes=(error.what,))
    unsure = found.uncertainty
    wrong = found.prediction != found.targets if found.kind == "classification" else None
    named = [
        ("total", unsure.total),
        ("aleatoric (noise)", unsure.aleatoric),
        ("epistemic (disagreement)", unsure.epistemic),
    ]
    calibration = found.calibration
    before = calibration.diagram_before if calibration is not None else None
    return Pooled(
        one,
        found,
        sizes=tuple((c.metric, charts.size_curve(c)) for c in found.curves[:2] if np.isfinite(c.value).any()),
        reliability=charts.reliability(before, calibration.diagram_after) if calibration and before else None,
        legend=(
            (0, "ensemble"),
            (charts.CALIBRATED, f"calibrated: temperature {number(calibration.served, 2)}, {source(calibration)}"),
        )
        if calibration and before else (),
        calibrated="" if not calibration else ", ".join(
            f"{name} {number(value, 4)} → {number(calibration.after[name], 4)}"
            for name, value in calibration.before.items() if name in calibration.after
        ),
        risk=charts.risk_coverage(found.risk) if isinstance(found, Classification) else None,
        area=number(found.risk.area, 4) if isinstance(found, Classification) else "",
        matrix=_matrix(found),
        apart=_apart(found),
        histograms=tuple(
            (name, charts.histogram(values, wrong, f"{name} uncertainty of {plural(values.size, 'example')}"))
            for name, values in named if values is not None
        ),
        classes=found.kind == "classification",
        notes=(*notes_of(found), *((f"{percent(level)} bands and intervals",) if found.curves else ())),
    )  # fmt: skip


def _matrix(found: Assessment) -> Markup | None:
    classes = isinstance(found, Classification)
    values = found.disagreement if isinstance(found, Classification) else found.rms_difference
    return charts.matrix(values, found.labels, "how far every two members are apart", in_percent=classes)


def _apart(found: Assessment) -> str:
    """What the matrix shows, and its mean over the pairs."""
    if not isinstance(found, Classification):
        return f"root mean square difference of two members, {number(mean_of(found.rms_difference), 4)} on average"
    share, kappa = percent(mean_of(found.disagreement)), number(mean_of(found.kappa), 3)
    return f"% of examples for which two members name different classes: {share} on average (kappa {kappa})"
