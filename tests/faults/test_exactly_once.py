"""Whatever dies or fails, wherever: each seed counts once, with the bits of a run that nobody disturbed.

The driver is killed, or the disk refuses, at every call of the store into the operating system; the same command
again must finish what is missing and end in the same tree, losing attempts aside.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kit import Nursery, credible, leftovers, tree, whole

from sweep.store import Store, atomic

CONFIG = "name: faults\ntrain: victims:steps\nparams: {epochs: EPOCHS}\ntimeout: 600\n"


def command(seeds: str, out: str) -> list[str]:
    return ["run", "faults.yaml", "--engine", "inline", "--seeds", seeds, "--out", out]


def undisturbed(nursery: Nursery, folder: Path, seeds: str, epochs: int) -> tuple[dict[str, str], list[str]]:
    """The tree of an undisturbed sweep, and every call that its store made."""
    (folder / "faults.yaml").write_text(CONFIG.replace("EPOCHS", str(epochs)))
    trial = nursery.run(command(seeds, "undisturbed"), folder, calls=str(folder / "calls.json"))
    assert trial.code == 0, trial.output
    assert leftovers(folder / "undisturbed") == []
    return tree(folder / "undisturbed"), json.loads((folder / "calls.json").read_text())


def points(calls: list[str], kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A fault at every call. Dying after a call is dying before the next; an error can also follow the deed."""
    for at, name in enumerate(calls):
        for kind in kinds:
            what, _, when = kind.partition(" ")
            if when == "half" and name != "_write":
                continue
            yield {"at": at, "what": what, "when": when, "lasting": what == "ENOSPC"}


def disturbed(nursery: Nursery, folder: Path, out: str, seeds: list[int], fault: dict[str, Any]) -> None:
    """One sweep with a fault in it, then the same command again."""
    words = command(",".join(map(str, seeds)), out)
    first = nursery.run(words, folder, fault=fault)
    at = f"{fault}: {first.output}"
    assert first.code in ((-9, 0) if fault["what"] == "kill" else (0, 1, 2)), at
    assert "Traceback" not in first.output, at
    try:
        credible(folder / out)
    except AssertionError as error:
        raise AssertionError(at) from error
    second = nursery.run(words, folder)
    assert second.code == 0, f"{at}\nthen\n{second.output}"
    assert f"{len(seeds)} planned = {len(seeds)} ok + 0 failed + 0 lost + 0 pending" in second.output, at
    assert leftovers(folder / out) == [], at


def every_point(
    nursery: Nursery, folder: Path, seeds: list[int], epochs: int, kinds: tuple[str, ...], step: int = 1
) -> int:
    words = ",".join(map(str, seeds))
    want, calls = undisturbed(nursery, folder, words, epochs)
    assert set(calls) == {"_open", "_write", "_fsync", "_replace", "_link", "_truncate"}
    count = 0
    for number, fault in enumerate(islice(points(calls, kinds), 0, None, step)):
        out = f"out{number}"
        disturbed(nursery, folder, out, seeds, fault)
        whole(folder / out, seeds)
        got = tree(folder / out)
        assert got == want, f"{fault} at {calls[fault['at']]}"
        count += 1
    return count


ALL = ("kill before", "kill half", "ENOSPC before", "ENOSPC half", "EIO before", "EIO after")


def test_cases_2_3_10_34_43_44_49_the_driver_killed_at_every_call_of_the_store(
    nursery: Nursery, tmp_path: Path
) -> None:
    assert every_point(nursery, tmp_path, [7], 1, ("kill before", "kill half")) > 50


@pytest.mark.parametrize("kind", ["ENOSPC before", "ENOSPC half", "EIO after"])
def test_cases_33_34_37_40_the_disk_refuses_at_a_call_of_the_store(nursery: Nursery, tmp_path: Path, kind: str) -> None:
    step = 1 if kind.endswith("half") else 3  # no write is left out
    assert every_point(nursery, tmp_path, [7], 1, (kind,), step=step) > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_cases_2_3_10_33_34_43_44_49_a_fault_at_every_call_of_three_seeds(
    nursery: Nursery, tmp_path: Path, kind: str
) -> None:
    count = every_point(nursery, tmp_path, [3, 1, 2], 2, (kind,))
    print(f"{kind}: {count} faults injected, 0 seeds lost, 0 counted twice")


def killed_at_random(nursery: Nursery, folder: Path, moments: int) -> tuple[int, int]:
    """(kills that struck, sweeps finished): a sweep of 20 seeds is killed at random moments until it is done."""
    seeds = list(range(20))
    want, _ = undisturbed(nursery, folder, "0-19", 3)
    at_random = random.Random(moments)
    struck = sweeps = 0
    while struck < moments:
        out = f"random{sweeps}"
        while True:
            trial = nursery.run(command("0-19", out), folder, kill_after=at_random.uniform(0.02, 1.2))
            credible(folder / out)
            if trial.code == 0:
                break
            struck += 1
        trial = nursery.run(command("0-19", out), folder)
        assert (trial.code, "nothing to train" in trial.output) == (0, True), trial.output
        whole(folder / out, seeds)
        assert tree(folder / out) == want
        sweeps += 1
    return struck, sweeps


def test_case_10_the_driver_killed_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    killed_at_random(nursery, tmp_path, 10)


@pytest.mark.slow
def test_case_10_the_driver_killed_at_two_hundred_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    struck, sweeps = killed_at_random(nursery, tmp_path, 200)
    print(f"driver killed {struck} times in {sweeps} sweeps of 20 seeds, 0 seeds lost, 0 counted twice")


def test_the_comparison_notices_a_wrong_bit_a_lost_seed_and_a_false_record(nursery: Nursery, tmp_path: Path) -> None:
    """The negative control of every test above."""
    want, _ = undisturbed(nursery, tmp_path, "1,2", 1)
    path = tmp_path / "undisturbed"
    member = next(Store.open(path).scan())
    assert member.folder is not None
    model = member.folder / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    assert tree(path) != want
    with pytest.raises(AssertionError):
        whole(path, [1, 2])
    with pytest.raises(AssertionError):
        credible(path)
    data[-1] ^= 1
    model.write_bytes(data)
    assert tree(path) == want
    whole(path, [1, 2])
    with pytest.raises(AssertionError):
        whole(path, [1, 2, 3])
    (member.path / "record.json").rename(member.path / "record.json.gone")
    with pytest.raises(AssertionError):
        whole(path, [1, 2])


def test_a_resume_that_draws_other_numbers_would_be_noticed(nursery: Nursery, tmp_path: Path) -> None:
    """A control of the training function: its bits depend on every epoch and on the restored random stream."""
    want, calls = undisturbed(nursery, tmp_path, "7", 3)
    last = max(at for at, name in enumerate(calls) if name == "_link")
    nursery.run(command("7", "cut"), tmp_path, fault={"at": last, "what": "kill", "when": "before"})
    attempt = next((tmp_path / "cut" / "members" / "seed7").glob("attempt-*"))
    for path in sorted(attempt.glob("checkpoint-*.pt")):
        import torch

        body = torch.load(path, weights_only=True)
        body["state"]["epoch"] -= 1  # one epoch too many will be trained
        torch.save(body, path)
        about = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**about, "sha256": atomic.file_digest(path)}))
    assert nursery.run(command("7", "cut"), tmp_path).code == 0
    assert tree(tmp_path / "cut") != want
    assert os.listdir(tmp_path / "cut" / "members") == ["seed7"]
