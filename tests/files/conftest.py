"""What tests of files share: looking at every run."""

from __future__ import annotations

import pytest


@pytest.fixture
def at_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every run, however slow the machine is at looking."""
    monkeypatch.setattr("sweep.shared_files.FREE", 60.0)
