"""What a prompt shows of results: pictures of each kind, signatures that say what they take, and a repr at no cost."""

from __future__ import annotations

import inspect

import pytest
from finished import normal, sweep_of

import sweep
from sweep.errors import ConfigError, StatisticsError
from sweep.results import Results
from sweep.store import Store


def outcome(spec):
    rows = [{"step": s, "val/accuracy": 0.9 - 0.3 / s + 0.01 * normal(spec.seed)} for s in range(1, 6)]
    better = 0.1 if spec.variant == "b" else 0.0
    return {"history": rows, "metrics": {"test/accuracy": 0.8 + better + 0.01 * normal(spec.seed)}}


@pytest.fixture
def results(tmp_path):
    return Results(sweep_of(tmp_path / "d", outcome, seeds=range(5), variants=["a", "b"]))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("seeds", "test/accuracy"), ("curves", "val/accuracy"), ("differences", "difference in test/accuracy")],
)
def test_each_kind_of_picture_is_drawn_without_a_metric_named(results, kind, words):
    (axes,) = results.plot(kind).axes
    assert words in axes.get_xlabel() + axes.get_ylabel()


def test_a_picture_or_a_metric_that_is_not_there_is_refused(results):
    with pytest.raises(ConfigError, match="pie"):
        results.plot("pie")
    with pytest.raises(StatisticsError, match="test/f1"):
        results.plot("seeds", "test/f1")


@pytest.mark.parametrize("size", ["column", "page"])
def test_a_picture_for_a_paper_has_its_width(results, size):
    from sweep.report.drawing import SIZES

    assert results.plot(size=size).get_figwidth() == SIZES[size][0]


PUBLIC = (sweep.open, sweep.run, Results.summary, Results.compare, Results.ensemble, Results.plot)


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_every_parameter_is_named_and_described(function):
    doc = inspect.getdoc(function)
    for name, one in inspect.signature(function).parameters.items():
        assert name == "self" or one.annotation is not inspect.Parameter.empty
        assert name == "self" or name in doc
        assert one.kind is not one.VAR_KEYWORD or function is sweep.run
    assert all(f"{section}\n---" in doc for section in ("Parameters", "Returns", "Raises"))


def test_the_repr_reads_no_run(results, monkeypatch):
    def scan(*_):
        raise AssertionError("a run was read")

    monkeypatch.setattr(Store, "scan", scan)
    assert "5 seeds, 2 variants" in repr(results)
    with pytest.raises(AssertionError, match="a run was read"):
        str(results)
