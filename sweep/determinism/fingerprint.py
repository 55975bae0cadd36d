"""The environment of this process: the fields that decide bits, and context for the reader."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweep.determinism import seeding
from sweep.determinism.environment import HASH_ORDER_NOT_CONTROLLED, UNDETERMINED

_PACKAGES = ("seed-sweep", "torch", "numpy", "scipy", "pandas", "scikit-learn", "ray", "safetensors")
# Settings that select kernels or change the order of sums. The effective thread count of torch is a field of its own.
_MKL = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "MKL_DYNAMIC", "MKL_THREADING_LAYER")
_OPENBLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS")
_OPENMP = (
    "OMP_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "OMP_SCHEDULE",
    "KMP_DETERMINISTIC_REDUCTION",
    "KMP_FORCE_REDUCTION",
)
_CUDA = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
)
_SIMD = re.compile(r"(sse|ssse|avx|amx|fma|f16c|bmi|asimd|sve|sme(?!p)|fp$|fphp|bf16|i8mm|neon|vsx)")


def collect(device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (numeric, context) of this process as JSON values. `environment` lists the numeric fields.

    Call it at the end of training in the thread that trained, because it reads the current switches and thread counts.
    device: that of the run, "cpu" or "cuda". A run on a CPU has None for every CUDA field.
    """
    numeric = {
        **_machine(),
        **_software(),
        "device": device,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "hash_seed": HASH_ORDER_NOT_CONTROLLED if sys.flags.hash_randomization else "0",
        "mkl": _variables(*_MKL),
        "onednn": _variables(*(n for n in os.environ if re.match(r"(ONEDNN|DNNL)_(?!VERBOSE)", n))),
        "openblas": _variables(*_OPENBLAS),
        "openmp": _variables(*_OPENMP),
        "precision": seeding.precision(),
        "flush_denormal": seeding.flushes_denormals(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        **seeding.read_back(),
        **(_cuda() if device.startswith("cuda") else dict.fromkeys(_NO_CUDA)),
    }
    context = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(_versions(_PACKAGES)),
        "git_commit": _git_commit(os.getcwd()),
    }
    return numeric, context


def remember() -> None:
    """Fill the caches of values that no run changes, for the processes that are forked from this one."""
    _machine(), _versions(_PACKAGES), _git_commit(os.getcwd())
    platform.platform(), platform.python_version(), platform.node()
    if torch.version.cuda:
        _cuda_libraries()
    elif not torch.version.hip:  # in a build for GPUs, torch starts the driver to describe itself: no fork could use it
        _software()


_NO_CUDA = ("gpu", "cuda", "cudnn", "cuda_libraries", "cuda_settings", "driver")


def _variables(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}


@cache
def _machine() -> Mapping[str, Any]:
    vendor, model, features = _processor()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or platform.mac_ver()[0] or None,
        "cpu_vendor": vendor,
        "cpu_model": model,
        "cpu_features": features,
    }


def _processor() -> tuple[str, str, str]:
    """Return the vendor, the model and the vector instructions of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        # The model determines the vendor and the instruction set.
        name = _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or UNDETERMINED
        return name.split(" ")[0], name, name
    found = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", text, flags=re.MULTILINE))
    vendor = found.get("vendor_id") or found.get("CPU implementer") or UNDETERMINED
    model = found.get("model name") or " ".join(found.get(n, "") for n in ("CPU variant", "CPU part")).strip()
    flags = (found.get("flags") or found.get("Features") or "").split()
    features = " ".join(sorted({flag for flag in flags if _SIMD.match(flag)}))
    return vendor, model or UNDETERMINED, features or UNDETERMINED


@cache
def _software() -> Mapping[str, Any]:
    # The instructions in use depend on an environment variable and have a field of their own.
    build = re.sub(r"(?m)^.*CPU capability usage.*$", "", torch.__config__.show())
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": str(torch.__version__),
        "torch_git": torch.version.git_version,
        "torch_build": hashlib.sha256(build.encode()).hexdigest(),
        "numpy": np.__version__,
        "numpy_blas": f"{blas.get('name')} {blas.get('version')}",
    }


def _cuda() -> dict[str, Any]:
    backend: Any = torch.backends.cuda
    matmul = backend.matmul
    return {
        **_gpu(torch.cuda.current_device()),
        "cuda_settings": {
            **_variables(*_CUDA),
            "fp16_reduced_precision_reduction": str(matmul.allow_fp16_reduced_precision_reduction),
            "bf16_reduced_precision_reduction": str(matmul.allow_bf16_reduced_precision_reduction),
            "fp16_accumulation": str(matmul.allow_fp16_accumulation),
            "blas": str(backend.preferred_blas_library()),
            "linalg": str(backend.preferred_linalg_library()),
            "sdp_flash": backend.flash_sdp_enabled(),
            "sdp_memory_efficient": backend.mem_efficient_sdp_enabled(),
            "sdp_math": backend.math_sdp_enabled(),
            "sdp_cudnn": backend.cudnn_sdp_enabled(),
        },
    }


@cache
def _gpu(index: int) -> Mapping[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    try:
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        version = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", driver)
    except OSError:
        version = None
    return {
        # A slice of a GPU has the name of the model, but fewer multiprocessors.
        "gpu": f"{properties.name}, {capability}, {properties.multi_processor_count} multiprocessors",
        "cuda": torch.version.cuda or f"hip {torch.version.hip}",
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cuda_libraries": dict(_cuda_libraries()),
        "driver": version.group() if version else None,
    }


@cache
def _cuda_libraries() -> Mapping[str, str]:
    wanted = (re.split(r"[^\w.-]", line)[0] for line in importlib.metadata.requires("torch") or ())
    return _versions(tuple(name for name in wanted if name.startswith(("nvidia-", "triton"))))


@cache
def _versions(names: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for name in sorted(set(names)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _git_commit(folder: str) -> str | None:
    """Return the commit checked out in a folder, read once per process, or None without a repository or git."""
    return _output("git", "-C", folder, "rev-parse", "HEAD")


def _output(*argv: str) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
