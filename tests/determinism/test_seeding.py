"""Seeds reach every generator, modes leave nothing behind, and state comes back as it was."""

# ruff: noqa: NPY002  what users still draw from is what must be seeded

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sweep.determinism import digest, seeding
from sweep.errors import IntegrityError


@pytest.fixture(autouse=True)
def _leaves_nothing():
    with seeding.restored():
        yield


def draws() -> list[float]:
    """One number of each global generator, the Gaussian ones with their remembered second halves included."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        torch.rand(1).item(),
        torch.randn(1).item(),
    ]


def test_each_generator_gets_the_seed_itself():
    seeding.seed_everything(42, deterministic=False)
    assert random.random() == random.Random(42).random()
    assert np.random.rand() == np.random.RandomState(42).rand()
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(42))
    assert torch.initial_seed() == 42


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_equal_seeds_give_equal_draws_and_others_do_not(seed):
    seeding.seed_everything(seed, deterministic=False)
    first, then = draws(), draws()
    seeding.seed_everything(seed, deterministic=True)
    assert draws() == first
    seeding.seed_everything(seed ^ 1, deterministic=False)
    assert not {*draws()} & {*first, *then}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_cuda_device_gets_the_seed_and_its_state_comes_back():
    seeding.seed_everything(42, deterministic=False)
    assert {torch.cuda.default_generators[i].initial_seed() for i in range(torch.cuda.device_count())} == {42}
    torch.rand(3, device="cuda")
    state = json.loads(json.dumps(seeding.get_rng_state()))
    expected = torch.rand(3, device="cuda")
    assert len(state["cuda"]) == torch.cuda.device_count()
    seeding.set_rng_state(state)
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_the_switches_of_the_two_modes():
    seeding.apply_mode(True)
    on = seeding.read_back()
    seeding.apply_mode(False)
    off = seeding.read_back()
    expected = {
        "deterministic_algorithms": (True, False),
        "cudnn_deterministic": (True, False),
        "cudnn_benchmark": (False, True),
    }
    assert {name: (on[name], off[name]) for name in on if on[name] != off[name]} == expected
    assert not on["deterministic_warn_only"]


def test_a_fast_run_inherits_nothing_from_what_was_left():
    seeding.apply_mode(False)
    fast = seeding.read_back()
    torch.use_deterministic_algorithms(True, warn_only=True)
    seeding.apply_mode(True)
    left = seeding.read_back()
    assert not left["deterministic_warn_only"]
    seeding.apply_mode(False)
    assert seeding.read_back() == fast


def test_deterministic_mode_refuses_an_operation_without_such_a_kernel():
    def put() -> None:
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))

    seeding.apply_mode(False)
    put()
    seeding.apply_mode(True)
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        put()


def test_a_sum_over_duplicate_indices_repeats_in_deterministic_mode_only():
    """Four threads add up 200,000 gradients of ten rows in whatever order they come."""
    seeding.set_threads(4)

    def digests(deterministic: bool, tries: int) -> set[str]:
        found = set()
        for _ in range(tries):
            seeding.seed_everything(7, deterministic=deterministic)
            x = torch.randn(10, 8, requires_grad=True)
            index = torch.randint(0, 10, (200_000,))
            (x[index] * torch.randn(200_000, 8)).sum().backward()
            found.add(digest.tensors({"grad": x.grad}))
        return found

    assert len(digests(True, 5)) == 1
    fast: set[str] = set()
    for _ in range(20):
        fast |= digests(False, 1)
        if len(fast) > 1:
            return
    pytest.skip("20 fast runs happened to agree: no race was seen on this machine")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_in_effect_are_returned(threads):
    assert seeding.set_threads(threads) == threads == torch.get_num_threads()


def test_the_state_comes_back_through_a_checkpoint_and_through_json():
    seeding.seed_everything(5, deterministic=False)
    draws()
    state = seeding.get_rng_state()
    expected = draws()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    for copy in (torch.load(file, weights_only=True), json.loads(json.dumps(state))):
        draws()
        seeding.set_rng_state(copy)
        assert draws() == expected


def test_reading_the_state_draws_nothing():
    seeding.seed_everything(5, deterministic=False)
    expected = draws()
    seeding.seed_everything(5, deterministic=False)
    seeding.get_rng_state()
    assert draws() == expected


@pytest.mark.parametrize(("part", "its_draws"), [("python", [0, 1]), ("numpy", [2, 3]), ("torch", [4, 5])])
def test_each_part_of_the_state_is_needed(part, its_draws):
    """The negative control of the tests above: with one part left as it was, just its draws go wrong."""
    seeding.seed_everything(5, deterministic=False)
    early = seeding.get_rng_state()
    draws()
    draws()
    state = seeding.get_rng_state()
    expected = draws()
    seeding.set_rng_state({**state, part: early[part]})
    got = draws()
    assert [i for i in range(6) if got[i] != expected[i]] == its_draws


BROKEN = {
    "without torch": lambda s: s.pop("torch"),
    "short torch": lambda s: s.update(torch=s["torch"][:-1]),
    "bytes out of range": lambda s: s.update(torch=[300] * len(s["torch"])),
    "short python": lambda s: s["python"].__setitem__(1, s["python"][1][:-1]),
    "older python": lambda s: s["python"].__setitem__(0, 9),
    "text": lambda s: s.update(python="x"),
    "short numpy": lambda s: s["numpy"]["state"].update(key=[1, 2]),
    "another numpy generator": lambda s: s["numpy"].update(bit_generator="PCG64"),
    "more CUDA devices": lambda s: s.update(cuda=[[0] * 16] * (torch.cuda.device_count() + 1)),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(damage):
    seeding.seed_everything(5, deterministic=False)
    state = seeding.get_rng_state()
    BROKEN[damage](state)
    seeding.seed_everything(6, deterministic=False)
    before = seeding.get_rng_state()
    with pytest.raises(IntegrityError, match="random state") as refused:
        seeding.set_rng_state(state)
    assert refused.value.hint == seeding.FROM_ZERO
    assert seeding.get_rng_state() == before


def test_a_stream_has_its_own_generator():
    seeding.seed_everything(5, deterministic=False)
    before = seeding.get_rng_state()
    one = torch.rand(3, generator=seeding.generator(9))
    assert torch.equal(one, torch.rand(3, generator=seeding.generator(9)))
    assert not torch.equal(one, torch.rand(3, generator=seeding.generator(10)))
    assert seeding.get_rng_state() == before


class Draws(Dataset):
    """Each example is what it drew, and who drew it."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> list[float]:
        worker = get_worker_info()
        return [
            worker.id if worker else -1,
            random.random(),
            np.random.rand(),
            torch.rand(1, dtype=torch.float64).item(),
        ]


def epochs(workers: int, seed: int = 5, init=seeding.worker_init_fn, count: int = 1) -> list[list[list[float]]]:
    loader = DataLoader(
        Draws(),
        batch_size=2,
        num_workers=workers,
        generator=seeding.generator(seed),
        worker_init_fn=init,
        collate_fn=list,
    )
    return [[row for batch in loader for row in batch] for _ in range(count)]


def shared_number(_: int) -> None:
    """What users write: the same seed in each worker."""
    np.random.seed(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
class TestLoaderWorkers:
    def test_streams_are_distinct_between_generators_workers_and_epochs_and_repeat_with_the_seed(self):
        first, second = epochs(2, count=2)
        assert {row[0] for row in first} == {0, 1}
        ambient = [x for row in first + second for x in row[1:4]]
        assert len({*ambient}) == len(ambient)
        assert epochs(2, count=2) == [first, second]
        assert not {x for row in epochs(2, seed=6)[0] for x in row[1:4]} & {*ambient}

    def test_the_global_seed_does_not_reach_a_loader_with_a_generator_of_its_own(self):
        seeding.seed_everything(1, deterministic=False)
        one = epochs(2)
        seeding.seed_everything(2, deterministic=False)
        before = seeding.get_rng_state()
        assert epochs(2) == one
        assert seeding.get_rng_state() == before

    def test_the_control_a_constant_seed_in_each_worker_gives_equal_streams(self):
        rows = epochs(2, init=shared_number)[0]
        assert [r[2] for r in rows if r[0] == 0] == [r[2] for r in rows if r[0] == 1]


LEFT = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "anomaly detection": lambda: torch.set_anomaly_enabled(True),
    "flush denormals": lambda: torch.set_flush_denormal(True),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "fill uninitialized memory": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "cudnn enabled": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "cudnn deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "cudnn benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "mkldnn enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "mkldnn deterministic": lambda: setattr(torch.backends.mkldnn, "deterministic", True),
    "float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn allow_tf32": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "float32 precision of all": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
    "float32 precision of cuda.matmul": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "float32 precision of cudnn": lambda: setattr(torch.backends.cudnn, "fp32_precision", "ieee"),
    "float32 precision of cudnn.conv": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "float32 precision of mkldnn.matmul": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "numpy errors": lambda: np.seterr(all="raise"),
    "working directory": lambda: os.chdir("/"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_code_leaves_changed_is_put_back(name):
    seeding.apply_mode(False)
    torch.backends.cudnn.benchmark = False
    settings = seeding._settings()
    before = {each: read() for each, (read, _) in settings.items()}
    with seeding.restored() as stuck:
        LEFT[name]()
        assert settings[name][0]() != before[name], "the control: the change took place"
    assert {each: read() for each, (read, _) in settings.items()} == before
    assert stuck == []


def test_both_interfaces_of_precision_work_after_a_restore():
    for name in ("float32 precision of all", "cudnn allow_tf32", "float32 matmul precision"):
        with seeding.restored():
            LEFT[name]()
        assert torch.backends.cuda.matmul.allow_tf32 is False
        assert torch.backends.cudnn.allow_tf32 is True
        assert torch.get_float32_matmul_precision() == "highest"


def test_settings_come_back_after_an_exception_too():
    dtype = torch.get_default_dtype()
    with suppress(KeyError), seeding.restored():
        torch.set_default_dtype(torch.float64)
        raise KeyError
    assert torch.get_default_dtype() is dtype


def test_variables_come_back(monkeypatch):
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.setenv("REMOVED", "before")
    with seeding.restored():
        os.environ["CHANGED"] = "after"
        os.environ["ADDED"] = "after"
        del os.environ["REMOVED"]
    assert (os.environ["CHANGED"], os.environ["REMOVED"]) == ("before", "before")
    assert "ADDED" not in os.environ


def test_what_cannot_be_put_back_is_said(tmp_path):
    home = os.getcwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    with seeding.restored() as stuck:
        os.chdir(home)
        gone.rmdir()
    assert stuck == ["working directory"]


def test_threads_that_torch_lets_nobody_change_twice_are_said():
    program = (
        "import torch; from sweep.determinism import seeding\n"
        "with seeding.restored() as stuck:\n"
        "    torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)\n"
        "print(stuck)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['interop threads']"
