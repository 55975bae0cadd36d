"""A prompt that completes `sweep.` offers what is public and nothing else."""

from __future__ import annotations

import sweep


def test_dir_shows_the_public_names_and_each_is_there() -> None:
    shown = dir(sweep)
    assert [name for name in shown if not name.startswith("__")] == sorted(sweep.__all__)
    assert all(hasattr(sweep, name) for name in shown)
