"""The dozen lines that a terminal shows of a report: the answer first and last, nothing cut so that two look alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from finished import accuracies, failure, normal, put, sweep_of
from rich.cells import cell_len

from sweep import report
from sweep.analysis.compare import compare
from sweep.config import load
from sweep.plan import Plan, RunSpec, Target, cells_of
from sweep.store import Manifest, Store
from sweep.variants import Variant, labels_of, letter, variants_of

TEN = {seed: normal(seed) for seed in range(10)}


def of_grid(path: Path, grid: dict[str, list[Any]], outcome: Any, seeds: range = range(3)) -> Store:
    config = load(None, train="made:up", seeds=[*seeds], grid=grid)
    plan = Plan(config, Target("function", reference="made:up"), tuple(cells_of(config)), "cpu")
    manifest = Manifest("made-up", {"primary": "test/accuracy", "grid": grid}, plan.experiment(), plan.config.seeds)
    store = Store.create(path, manifest)
    for spec in plan:
        put(store, spec, outcome(spec))
    return store


def scored(spec: RunSpec) -> dict[str, Any]:
    lr = spec.params["optimizer"]["lr"]
    return {"metrics": {"test/accuracy": normal(spec.seed + int(1000 * lr)) + lr}}


def test_a_dozen_lines_with_the_value_first_and_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = report.brief_text(report.build(sweep_of(Path("d"), accuracies(TEN), seeds=TEN))).splitlines()
    assert len(lines) <= 13
    value = re.fullmatch(r"  (test/accuracy 0\.\d+ ± 0\.\d+)", lines[2])
    assert value
    assert lines[-1] == lines[2]
    assert "  10 planned = 10 ok + 0 failed + 0 lost + 0 pending" in lines
    assert sum(line.startswith("  test/accuracy ↑ ") for line in lines) == 1
    assert [line.split()[0] for line in lines[-4:-1]] == ["directory", "next", "more"]
    assert lines[-2].endswith("sweep report d --full")


def test_nothing_is_said_of_failures_where_no_run_failed(tmp_path: Path) -> None:
    told = report.text(report.build(sweep_of(tmp_path / "d", accuracies(TEN), seeds=TEN)))
    assert "0 failed" in told
    assert "no seed of" not in told


def test_a_table_of_failed_variants_says_how_many_it_leaves_out(tmp_path: Path) -> None:
    def outcome(spec: RunSpec) -> dict[str, Any]:
        return {"failure": failure()} if spec.seed == 0 else {"metrics": {"test/accuracy": TEN[spec.seed]}}

    variants = [f"v{i:02}" for i in range(30)]
    told = report.text(report.build(sweep_of(tmp_path / "d", outcome, seeds=range(2), variants=variants)), width=120)
    table, _, rest = told.partition("failure rate, 95 % CI")[2].partition("…")
    assert len(re.findall(r"^ *v\d\d +1 of 2 ", table, re.M)) == 24
    assert rest.startswith(" and 6 more rows")


def test_failures_are_one_line_for_each_place_with_variants_and_seeds(tmp_path: Path) -> None:
    def outcome(spec: RunSpec) -> dict[str, Any]:
        if spec.seed % 2 and spec.variant != "v1":
            made = failure(
                "raised", f"bad value {spec.seed}.5 at 0x7f{spec.seed}", exception="RuntimeError", where="t.py:5"
            )
            return {"failure": made}
        if spec.seed == 2 and spec.variant == "v0":
            return {"failure": failure("raised", "bad value 2", exception="ValueError", where="t.py:5")}
        return {"metrics": {"test/accuracy": TEN[spec.seed]}}

    found = report.build(sweep_of(tmp_path / "d", outcome, seeds=range(6), variants=("v0", "v1", "v2")))
    text = report.brief_text(found, width=120)
    assert "6 × RuntimeError at t.py:5 (A, C; seeds 1, 3, 5): bad value # at #" in text
    assert "1 × ValueError at t.py:5 (A; seed 2): bad value 2" in text


def test_variants_are_called_by_the_parameters_that_differ(tmp_path: Path) -> None:
    grid = {"params.optimizer.lr": [0.01, 0.05], "params.model.depth": [3]}
    found = report.build(of_grid(tmp_path / "d", grid, scored, seeds=range(8)))
    assert [one.label for one in found.variants.values()] == ["lr=0.01", "lr=0.05"]
    text = report.brief_text(found)
    assert "B (lr=0.05) is best: test/accuracy" in text
    assert "depth" not in text
    assert re.search(r"^ +lr +n +mean", text, re.M)
    assert re.search(r"^  B  0.05  8 ", text, re.M)


@pytest.mark.parametrize("grid", [
    {"params.model.lr": [1, 2], "params.optimizer.lr": [0.1, 0.2]},
    {"params.path": ["x" * 100 + "a" + "y" * 100, "x" * 100 + "b" + "y" * 100]},
    {"params.a": ["1 b=2", "1"], "params.b": ["2", "2 b=2"]},
])  # fmt: skip
def test_no_two_variants_look_alike(tmp_path: Path, grid: dict[str, list[Any]]) -> None:
    found = report.build(of_grid(tmp_path / "d", grid, lambda spec: {"metrics": {"test/accuracy": TEN[spec.seed]}}))
    labels = [one.label for one in found.variants.values()]
    assert len(set(labels)) == len(labels) == len(found.variants)
    rows = [line for line in report.brief_text(found).splitlines() if re.match(r"  [A-Z]  ", line)]
    assert len({re.split("  3  +0", row[3:])[0] for row in rows}) == len(labels)
    assert all(len(row) <= 80 for row in rows)


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("variants", [1, 6, 40])
def test_it_fits_whatever_the_number_of_variants(tmp_path: Path, variants: int, width: int) -> None:
    names = [f"a-rather-long-name-of-a-variant-{i:02d}" for i in range(variants)] if variants > 1 else [""]
    found = report.build(sweep_of(tmp_path / "d", accuracies(TEN), seeds=range(2), variants=names))
    lines = report.brief_text(found, width=width).splitlines()
    assert len(lines) < 30
    assert all(cell_len(line) <= width for line in lines if str(tmp_path) not in line)


@pytest.mark.parametrize("name", ["lr=0.05", "0.05", "B", "2", "lr-0.05", "folder"])
def test_a_baseline_is_found_by_every_name_a_variant_has_had(tmp_path: Path, name: str) -> None:
    store = of_grid(tmp_path / "d", {"params.optimizer.lr": [0.01, 0.05]}, scored)
    folder = list(store.manifest.cells)[1] if name == "folder" else name
    assert [pair.b.name for pair in compare(store, baseline=folder).pairs] == ["lr=0.05"]


def test_letters_go_on_after_z() -> None:
    assert [letter(i) for i in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_a_group_of_variants_is_called_as_it_is_grouped(tmp_path: Path) -> None:
    grid = {"params.optimizer.lr": [0.01, 0.05], "params.optimizer.momentum": [0, 0.9]}
    store = of_grid(tmp_path / "d", grid, scored)
    assert variants_of(["lr=0.01", "lr=0.05"], store.manifest)["lr=0.05"] == Variant("B", "lr=0.05")
    found = report.build(store, group_by=["lr"])
    assert [row.label for row in found.primary_rows] == ["lr=0.01", "lr=0.05"]


def test_folders_keep_their_hash_where_their_names_are_alike(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "d", accuracies(TEN), seeds=range(2), variants=("x-aaaaaa", "x-bbbbbb"))
    cells = [("", "x-aaaaaa"), ("", "x-bbbbbb")]
    assert list(labels_of(cells, store.manifest).values()) == ["x-aaaaaa", "x-bbbbbb"]
