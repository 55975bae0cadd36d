"""These tests need a CUDA device; elsewhere they are skipped, and say so."""

from __future__ import annotations

import os
from pathlib import Path

# Read once by cuBLAS, when it first is used in this process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):  # not by the name: a checkout may lie in a folder called gpu
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))
