"""Whole sweeps in lanes, as a user types them, on Ray: packs on every GPU, and a lane that breaks its device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

RECIPE = '''
import os

import torch
from torch import nn

from sweep.plan import stream_seed
from sweep.train import recipes
from dataclasses import replace


class Breaking(nn.Module):
    """Looks up what is not there: the device stops, and its process can do nothing more with it."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.table = inner, nn.Embedding(4, 1)

    def forward(self, inputs):
        beyond = torch.full((len(inputs),), 1_000_000, device=inputs.device)
        return self.inner(inputs) + self.table(beyond)


def digits(*, epochs: int = 2, bad: int = -1):
    print("on GPU", os.environ.get("CUDA_VISIBLE_DEVICES"), "in", os.getpid())
    made = recipes.classifier(epochs=epochs)

    def model(data):
        inner = made.model(data)
        return Breaking(inner) if torch.initial_seed() == stream_seed(bad, "init") else inner

    return replace(made, model=model) if bad >= 0 else made


def drawn(run):
    return {"test/drawn": float(torch.rand(1, device="cuda")), "test/seed": run.seed}
'''


def sweep(folder: Path, *words: str, code: str = "recipe=ours:digits") -> subprocess.CompletedProcess[str]:
    (folder / "ours.py").write_text(RECIPE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-m", "sweep.cli", "run", code, "--out", "out", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def records(folder: Path) -> dict[int, dict]:  # type: ignore[type-arg]
    found = [json.loads(path.read_text()) for path in folder.glob("out/members/seed*/record.json")]
    return {record["spec"]["seed"]: record for record in found}


def packs(folder: Path) -> list[str]:
    """The GPU and the process of every call of the recipe, from the log of the first run it was called for."""
    logs = sorted(folder.glob("out/members/seed*/attempt-*/log.txt"))
    return [line for log in logs for line in log.read_text().splitlines() if line.startswith("on GPU")]


def process(folder: Path, seed: int) -> str:
    """The id of the process in which a seed was trained last."""
    *_, log = sorted(folder.glob(f"out/members/seed{seed}/attempt-*/log.txt"))
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("on GPU"))
    return line.split()[-1]


def test_a_function_of_the_user_finds_the_gpu_in_its_forked_process(tmp_path: Path) -> None:
    found = {}
    for engine in ("ray", "inline"):
        folder = tmp_path / engine
        folder.mkdir()
        done = sweep(folder, "--seeds", "1,2", "--deterministic", "--engine", engine, code="train=ours:drawn")
        assert done.returncode == 0, done.stdout + done.stderr
        assert {record["context"]["process"] for record in records(folder).values()} == {"forked"}
        found[engine] = {seed: record["metrics"]["test/drawn"] for seed, record in records(folder).items()}
    assert found["ray"] == found["inline"]
    assert found["ray"][1] != found["ray"][2]


def test_a_lane_that_breaks_the_device_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # one pack
    done = sweep(tmp_path, "params.bad=1", "--seeds", "0-2", "device=cuda")
    assert done.returncode == 1, done.stdout + done.stderr
    found = records(tmp_path)
    assert {seed: record["status"] for seed, record in found.items()} == {0: "ok", 1: "failed", 2: "ok"}
    assert "CUDA" in found[1]["failure"]["message"]
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    again = {event["key"] for event in events if event["kind"] in ("lost", "unpacked")}
    assert again == {"seed0", "seed1", "seed2"}
    assert len(set(packs(tmp_path))) > 1  # the pack's process, and others


def test_the_seeds_after_one_that_broke_the_device_have_new_processes_and_the_bits_of_their_solo_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    words = "device=cuda", "--deterministic", "--lanes", "off"
    done = sweep(tmp_path, "params.bad=1", "--seeds", "0-3", "--jobs", "1", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    found = records(tmp_path)
    assert {seed: record["status"] for seed, record in found.items()} == {0: "ok", 1: "failed", 2: "ok", 3: "ok"}
    assert "device-side assert" in found[1]["failure"]["message"]
    broken = process(tmp_path, 1)
    assert broken not in {process(tmp_path, seed) for seed in (2, 3)}
    alone = tmp_path / "alone"
    alone.mkdir()
    done = sweep(alone, "--seeds", "0,2,3", "--engine", "inline", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    solo = {seed: record["digests"] for seed, record in records(alone).items()}
    assert {seed: found[seed]["digests"] for seed in solo} == solo


def test_a_device_that_one_seed_broke_is_whole_for_the_others_in_this_process_too(tmp_path: Path) -> None:
    done = sweep(tmp_path, "params.bad=1", "--seeds", "0-3", "device=cuda", "--engine", "inline")
    assert done.returncode == 1, done.stdout + done.stderr
    found = {seed: record["status"] for seed, record in records(tmp_path).items()}
    assert found == {0: "ok", 1: "failed", 2: "ok", 3: "ok"}


def test_two_gpus_share_the_seeds_evenly(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    done = sweep(tmp_path, "--seeds", "0-7", "device=cuda", "--deterministic")
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path)
    assert len(found) == 8
    made = packs(tmp_path)
    assert len({line.split()[2] for line in made if "None" not in line}) == 2, made
    logs = [
        p.parent.parent.name for p in tmp_path.glob("out/members/seed*/attempt-*/log.txt") if "on GPU" in p.read_text()
    ]
    assert sorted(logs) == ["seed0", "seed4"]  # the first of each pack: four and four
    one = tmp_path / "one"
    one.mkdir()
    assert sweep(one, "--seeds", "0-7", "device=cuda", "--deterministic", "--lanes", "8", "--jobs", "1").returncode == 0
    assert {seed: r["digests"] for seed, r in records(one).items()} == {s: r["digests"] for s, r in found.items()}
