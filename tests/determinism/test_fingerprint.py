"""The environment as collected: complete, stable, and changed by what changes bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from sweep.determinism import fingerprint, seeding
from sweep.determinism.environment import (
    ENVIRONMENT_FOR_DETERMINISM,
    FIELDS,
    UNDETERMINED,
    Answer,
    Origin,
    environment_id,
    switches_stood,
    verdict,
)


@pytest.fixture(autouse=True)
def _leaves_nothing():
    with seeding.restored():
        seeding.set_threads(1)
        yield


def numeric(device: str = "cpu"):
    return fingerprint.collect(device)[0]


def elsewhere(**variables: str):
    """The numeric environment of a new process with these variables set."""
    program = (
        "import json; from sweep.determinism import fingerprint, seeding; seeding.set_threads(1)\n"
        "print(json.dumps(fingerprint.collect('cpu')[0]))"
    )
    env = {**os.environ, **variables}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    return json.loads(out.stdout)


def judged(a, b) -> tuple[Answer, list[str]]:
    found = verdict(Origin("s", a, True), Origin("s", b, True))
    return found.answer, [name for name, _, _ in found.fields]


def test_all_fields_are_collected_and_no_other():
    found = numeric()
    assert {*found} == {*FIELDS}
    assert UNDETERMINED not in found.values()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_collected_twice_is_equal():
    first, second = numeric(), numeric()
    assert first == second
    assert first is not second
    first["mkl"]["x"] = "y"
    assert numeric() == second, "a caller's change does not reach the next record"


def test_a_run_on_a_cpu_has_no_gpu():
    fields = ("gpu", "cuda", "cudnn", "cuda_libraries", "cuda_settings", "driver")
    assert {numeric()[name] for name in fields} == {None}


def test_two_new_processes_of_a_deterministic_run_must_match():
    one = elsewhere(**ENVIRONMENT_FOR_DETERMINISM)
    assert one["hash_seed"] == "0"
    seeding.apply_mode(True)
    here = numeric() | {"hash_seed": "0"}
    switches = {name: here[name] for name in seeding.read_back()}
    assert judged(one | switches, here) == (Answer.MUST_MATCH, [])
    assert environment_id(one | switches) == environment_id(here)
    assert switches_stood(here)
    assert not switches_stood(one)


def test_variables_that_choose_kernels_are_seen_in_a_new_process():
    other = elsewhere(
        PYTHONHASHSEED="random",
        ATEN_CPU_CAPABILITY="default",
        MKL_CBWR="COMPATIBLE",
        ONEDNN_MAX_CPU_ISA="SSE41",
    )
    seeding.apply_mode(True)
    one = numeric() | {"hash_seed": "0"}
    other |= {name: one[name] for name in seeding.read_back()}
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"cpu_capability", "hash_seed", "mkl", "onednn"}, "torch_build is not among them"
    assert other["cpu_capability"] == "DEFAULT"
    assert other["mkl"] == {"MKL_CBWR": "COMPATIBLE"}
    assert other["onednn"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert other["hash_seed"] == "random"
    assert judged(one, other)[0] is Answer.NOT_EXPECTED


def test_a_hash_seed_set_after_the_start_controls_nothing(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    if sys.flags.hash_randomization:
        assert numeric()["hash_seed"] == "random"
    else:
        pytest.skip("this interpreter itself was started with PYTHONHASHSEED=0")


CHANGES = {
    "threads": lambda: torch.set_num_threads(2),
    "flush_denormal": lambda: torch.set_flush_denormal(True),
    "default_dtype": lambda: torch.set_default_dtype(torch.float64),
    "mkldnn_enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "mkldnn_deterministic": lambda: setattr(torch.backends.mkldnn, "deterministic", True),
    "deterministic_algorithms": lambda: torch.use_deterministic_algorithms(False),
    "deterministic_warn_only": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "cudnn_enabled": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "cudnn_deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", False),
    "cudnn_benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "openmp": lambda: os.environ.update(OMP_DYNAMIC="true"),
    "mkl": lambda: os.environ.update(MKL_DYNAMIC="false"),
    "onednn": lambda: os.environ.update(ONEDNN_DEFAULT_FPMATH_MODE="BF16"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_real_change_is_seen_alone_and_nothing_is_expected_any_more(name):
    seeding.apply_mode(True)
    before = numeric()
    CHANGES[name]()
    after = numeric()
    assert judged(before, after) == (Answer.NOT_EXPECTED, [name])


@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    ],
)
def test_precision_is_seen_through_both_of_torchs_interfaces(change):
    before = numeric()
    change()
    assert judged(before, numeric()) == (Answer.NOT_EXPECTED, ["precision"])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("openblas", lambda: os.environ.update(OPENBLAS_CORETYPE="Haswell")),
        ("fill_uninitialized_memory", lambda: seeding.fill_memory(False)),
    ],
)
def test_a_change_that_matters_to_some_programs(name, change):
    seeding.apply_mode(True)
    before = numeric() | {"hash_seed": "0"}
    change()
    assert judged(before, numeric() | {"hash_seed": "0"}) == (Answer.MAY_MATCH, [name])


def test_verbose_settings_do_not_count():
    before = numeric()
    os.environ["ONEDNN_VERBOSE"] = "1"
    assert numeric() == before


def test_the_thread_count_is_the_effective_one():
    seeding.set_threads(2)
    assert numeric()["threads"] == 2


def test_before_a_fork_nothing_is_asked_that_starts_the_driver_of_a_gpu(monkeypatch):
    """In a build for GPUs `torch.__config__.show()` starts the driver, which then works in no forked process."""
    asked = []
    monkeypatch.setattr(torch.__config__, "show", lambda: asked.append(1) or "")
    fingerprint._software.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    fingerprint.remember()
    assert not asked
    monkeypatch.setattr(torch.version, "cuda", None)
    fingerprint.remember()
    assert asked, "elsewhere it is remembered"
    fingerprint._software.cache_clear()


def test_the_context_tells_versions_and_the_commit_and_no_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2")
    monkeypatch.chdir(tmp_path)
    context = fingerprint.collect("cpu")[1]
    assert context["git_commit"] is None, "outside a repository"
    assert context["packages"]["torch"] == torch.__version__
    assert context["time"].endswith("+00:00")
    assert "hunter2" not in json.dumps(context)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "inside"], check=True)
    monkeypatch.chdir(tmp_path / "inside")
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert fingerprint.collect("cpu")[1]["git_commit"] == head.stdout.strip()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_has_all_of_its_fields():
    found = numeric("cuda")
    assert {*found} == {*FIELDS}
    assert torch.cuda.get_device_name() in found["gpu"]
    assert None not in (found["cuda"], found["cudnn"], found["cuda_libraries"], found["cuda_settings"])
    assert json.loads(json.dumps(found)) == found
    torch.backends.cuda.enable_flash_sdp(False)
    assert judged(found, numeric("cuda")) == (Answer.NOT_EXPECTED, ["cuda_settings"])
    torch.backends.cuda.enable_flash_sdp(True)
    assert judged(found, numeric("cpu"))[0] is Answer.NOT_EXPECTED
