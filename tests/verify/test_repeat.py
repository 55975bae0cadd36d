"""Five small models give the same chain of digests in every kind of process, and after other seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asking import here, spec_of
from five_models import EPOCHS, MODELS

import sweep
from sweep.verify.process import Request, Trained
from sweep.verify.rehearse import rehearse


def once(folder: Path, model: str, seed: int = 42) -> Trained:
    made = rehearse(Request(spec_of("five_models:train", {"model": model}, seed=seed), here()), folder)
    assert made.failure is None, made.failure
    return made


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("first")
    return {model: once(folder / model, model) for model in MODELS}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """All five, in the opposite order, in one process of their own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    script = (
        "import json, pathlib; from test_repeat import MODELS, once;"
        f"print(json.dumps({{m: once(pathlib.Path({str(folder)!r}) / m, m).chain for m in reversed(MODELS)}}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_again_in_this_process_after_another_seed(tmp_path: Path, first: dict[str, Trained], model: str) -> None:
    other = once(tmp_path / "other", model, seed=7)
    assert once(tmp_path / "again", model).chain == first[model].chain
    # Negative control: every link but the counts of it knows the seed.
    assert [link for link in other.chain if other.chain[link] == first[model].chain[link]] == []
    assert len(other.chain) == EPOCHS + 3


@pytest.mark.parametrize("model", MODELS)
def test_in_a_new_process(first: dict[str, Trained], elsewhere: dict[str, dict[str, str]], model: str) -> None:
    assert elsewhere[model] == first[model].chain


@pytest.mark.ray
@pytest.mark.slow
def test_in_ray_workers(tmp_path: Path, first: dict[str, Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(__file__))
    config = {"train": "five_models:train", "grid": {"params.model": list(MODELS)}}
    found = sweep.run(config, seeds=[7, 42], out=tmp_path / "out", deterministic=True, jobs=2)
    by_model = {m.record.spec["params"]["model"]: m.record for m in found.store.scan() if m.record and m.seed == 42}
    assert set(by_model) == set(MODELS)
    for model, record in by_model.items():
        assert record.status == "ok", record.failure
        shared = {link: value for link, value in first[model].chain.items() if not link.startswith("metrics/")}
        assert dict(record.digests) == shared
