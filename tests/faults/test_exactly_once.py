"""Whatever dies or fails, wherever: each seed counts once, with the bits of a run that nobody disturbed.

The driver is killed, or the disk refuses, at every call of the store into the operating system; the same command
again must finish what is missing and end in the same tree, losing attempts aside.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import Nursery, credible, leftovers, tree, whole

from sweep.store import Store, atomic

Call = dict[str, Any]  # of the store: its name, its place, and what a kill before it would leave
CONFIG = "name: faults\ntrain: victims:steps\nparams: {epochs: EPOCHS}\ntimeout: 600\n"


def command(seeds: str, out: str) -> list[str]:
    return ["run", "faults.yaml", "--engine", "inline", "--seeds", seeds, "--out", out]


def undisturbed(
    nursery: Nursery, folder: Path, seeds: str, epochs: int, **order: str
) -> tuple[dict[str, str], list[Call]]:
    """The tree of an undisturbed sweep, and every call that its store made."""
    (folder / "faults.yaml").write_text(CONFIG.replace("EPOCHS", str(epochs)))
    trial = nursery.run(command(seeds, "undisturbed"), folder, calls=str(folder / "calls.json"), **order)
    assert trial.code == 0, trial.output
    assert leftovers(folder / "undisturbed") == []
    return tree(folder / "undisturbed"), json.loads((folder / "calls.json").read_text())


def points(calls: list[Call], kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A fault at every call. Dying after a call is dying before the next; an error can also follow the deed."""
    for at, call in enumerate(calls):
        for kind in kinds:
            what, _, when = kind.partition(" ")
            if when == "half" and call["name"] != "_write":
                continue
            yield {"at": at, "what": what, "when": when, "lasting": what == "ENOSPC"}


def apart(calls: list[Call], faults: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those of the faults that differ.

    A process that is killed leaves its files and nothing else: it is killed once with the same files. Half of a write
    is done once at each place of the package.
    """
    seen = set()
    for fault in faults:
        call = calls[fault["at"]]
        key = call["left"] if fault["when"] == "before" else (call["name"], *call["place"])
        if key not in seen:
            seen.add(key)
            yield fault


def in_turn(calls: list[Call], kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """One fault for each place of the package that calls the store, of each kind in turn, at each of its calls in turn.

    A place has several calls: it opens, writes, flushes and renames.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for at, call in enumerate(calls):
        places.setdefault(tuple(call["place"]), []).append(at)
    for number, ats in enumerate(places.values()):
        what, _, when = kinds[number % len(kinds)].partition(" ")
        at = ats[number // len(kinds) % len(ats)]
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


def each(
    nursery: Nursery, folder: Path, seeds: list[int], epochs: int,
    faults: Callable[[list[Call]], Iterator[dict[str, Any]]],
) -> int:  # fmt: skip
    words = ",".join(map(str, seeds))
    watched = {"watched": "undisturbed"} if len(seeds) == 1 else {}
    want, calls = undisturbed(nursery, folder, words, epochs, **watched)
    assert {call["name"] for call in calls} == {"_open", "_write", "_fsync", "_replace", "_link", "_truncate"}
    count = 0
    for number, fault in enumerate(faults(calls)):
        out = f"out{number}"
        disturbed(nursery, folder, out, seeds, fault)
        whole(folder / out, seeds)
        got = tree(folder / out)
        assert got == want, f"{fault} at {calls[fault['at']]['name']}"
        count += 1
    return count


ALL = ("kill before", "kill half", "ENOSPC before", "ENOSPC half", "EIO before", "EIO after")


def test_cases_2_3_10_34_43_44_49_the_driver_killed_at_every_call_of_the_store(
    nursery: Nursery, tmp_path: Path
) -> None:
    kinds = ("kill before", "kill half")
    assert each(nursery, tmp_path, [7], 1, lambda calls: apart(calls, points(calls, kinds))) > 40


def test_cases_33_34_37_40_the_disk_refuses_at_a_call_of_the_store(nursery: Nursery, tmp_path: Path) -> None:
    def faults(calls: list[Call]) -> Iterator[dict[str, Any]]:
        yield from apart(calls, points(calls, ("ENOSPC half",)))
        yield from in_turn(calls, ("ENOSPC before", "EIO after"))

    assert each(nursery, tmp_path, [7], 1, faults) > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_cases_2_3_10_33_34_43_44_49_a_fault_at_every_call_of_three_seeds(
    nursery: Nursery, tmp_path: Path, kind: str
) -> None:
    count = each(nursery, tmp_path, [3, 1, 2], 2, lambda calls: points(calls, (kind,)))
    print(f"{kind}: {count} faults injected, 0 seeds lost, 0 counted twice")


def killed_at_random(nursery: Nursery, folder: Path, moments: int, runs: int) -> tuple[int, int]:
    """(kills that struck, sweeps finished): a sweep is killed at random moments until it is done."""
    seeds = list(range(runs))
    words = f"0-{runs - 1}"
    want, _ = undisturbed(nursery, folder, words, 3)
    seconds = nursery.run(command(words, "calm"), folder).seconds
    at_random = random.Random(moments)
    struck = sweeps = 0
    while struck < moments:
        out = f"random{sweeps}"
        while True:
            trial = nursery.run(command(words, out), folder, kill_after=at_random.uniform(0.02, 0.6 * seconds))
            credible(folder / out)
            if trial.code == 0:
                break
            struck += 1
        trial = nursery.run(command(words, out), folder)
        assert (trial.code, "nothing to train" in trial.output) == (0, True), trial.output
        whole(folder / out, seeds)
        assert tree(folder / out) == want
        sweeps += 1
    return struck, sweeps


def test_case_10_the_driver_killed_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    killed_at_random(nursery, tmp_path, 10, runs=6)


@pytest.mark.slow
def test_case_10_the_driver_killed_at_two_hundred_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    struck, sweeps = killed_at_random(nursery, tmp_path, 200, runs=20)
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
    last = max(at for at, call in enumerate(calls) if call["name"] == "_link")
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
