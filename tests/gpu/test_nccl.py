"""Several GPUs for each seed, with what talks through NCCL between them: torchrun, DDP and FSDP, seeds side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

DEVICES = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(DEVICES < 2, reason="two CUDA devices are needed")

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from torch import nn

seed, how = int(sys.argv[1]), sys.argv[2]
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
begun = time.time()
uuid = str(torch.cuda.get_device_properties(rank).uuid)
Path(f"begun-{seed}-{rank}").write_text(json.dumps({"pid": os.getpid(), "uuid": uuid}))
torch.manual_seed(seed)
model = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 4)).cuda()
if how == "fsdp":
    from torch.distributed.fsdp import fully_shard
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
else:
    model = nn.parallel.DistributedDataParallel(model, device_ids=[rank])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
draw = torch.Generator().manual_seed(seed)
x = torch.randn(256, 32, generator=draw)
y = x[:, :4].argmax(1)
mine = slice(rank * 128, rank * 128 + 128)
for _ in range(60):
    loss = nn.functional.cross_entropy(model(x[mine].cuda()), y[mine].cuda())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
if how == "hang" and seed == 1:
    time.sleep(600)
until = time.time() + 60
while how == "together" and len(list(Path().glob("begun-*-0"))) < 2 and time.time() < until:
    time.sleep(0.05)
right = (model(x[mine].cuda()).argmax(1).cpu() == y[mine]).float().mean().cuda()
dist.all_reduce(right, op=dist.ReduceOp.AVG)
if rank == 0:
    print(json.dumps({"train/accuracy": right.item(), "begun": begun, "ended": time.time()}))
dist.destroy_process_group()
"""


def sweep(folder: Path, how: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "ddp.py").write_text(SCRIPT)
    train = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "{port}"]
    words = ["run", "--seeds", "1,2", "--out", "runs", "--json", "resources.gpus=2", *more]
    return subprocess.run(
        [sys.executable, "-m", "sweep.cli", *words, "--", *train, "ddp.py", "{seed}", how],
        cwd=folder, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def begun(folder: Path, seed: int) -> list[dict[str, str]]:
    return [json.loads((folder / f"begun-{seed}-{rank}").read_text()) for rank in (0, 1)]


def metrics(folder: Path) -> dict[int, dict[str, float]]:
    told = subprocess.run(
        [sys.executable, "-m", "sweep.cli", "export", "runs", "--to", "csv", "--out", "table"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    import pandas as pd

    return pd.read_csv(folder / "table" / "runs.csv").set_index("seed").to_dict("index")


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_a_seed_trains_on_two_gpus(tmp_path: Path, how: str) -> None:
    done = sweep(tmp_path, how)
    assert done.returncode == 0, done.stdout + done.stderr
    found = metrics(tmp_path)
    assert all(row["train/accuracy"] > 0.8 for row in found.values())
    for seed in (1, 2):
        assert len({told["uuid"] for told in begun(tmp_path, seed)}) == 2


@pytest.mark.skipif(DEVICES < 4, reason="four CUDA devices are needed")
def test_two_seeds_train_at_once_on_two_gpus_each(tmp_path: Path) -> None:
    done = sweep(tmp_path, "together")
    assert done.returncode == 0, done.stdout + done.stderr
    used = [told["uuid"] for seed in (1, 2) for told in begun(tmp_path, seed)]
    assert len(set(used)) == 4
    first, second = metrics(tmp_path).values()
    assert max(first["begun"], second["begun"]) < min(first["ended"], second["ended"])


def test_a_seed_that_hangs_is_ended_with_its_processes_and_the_other_goes_on(tmp_path: Path) -> None:
    done = sweep(tmp_path, "hang", "timeout=60")
    assert done.returncode == 1, done.stdout + done.stderr
    found = metrics(tmp_path)
    assert found[1]["status"] == "failed"
    assert found[2]["train/accuracy"] > 0.8
    until = time.monotonic() + 20
    while any(psutil.pid_exists(int(told["pid"])) for told in begun(tmp_path, 1)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(psutil.pid_exists(int(told["pid"])) for told in begun(tmp_path, 1))
    listed = subprocess.run(
        ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], capture_output=True, text=True
    )
    assert not {str(told["pid"]) for told in begun(tmp_path, 1)} & set(listed.stdout.split())
