"""The next commands for a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweep.analysis.model import Overview
from sweep.errors import one_line
from sweep.redaction import HIDDEN
from sweep.seeds import format_seeds
from sweep.store import Manifest, Store, atomic
from sweep.words import path_argument


def repeatable(target: Mapping[str, Any]) -> bool:
    """Return whether a command can find the code: only the text of a function from a notebook or script is kept."""
    reference = str(target.get("reference", ""))
    return not (target.get("kind") == "function" and (reference.startswith("__main__:") or "<" in reference))


def resumable(manifest: Manifest) -> bool:
    """Return whether a directory keeps all that `sweep resume` needs: code that is found by name, and no secrets."""
    kept = [manifest.config, manifest.experiment.get("target", {}).get("argv", ())]
    return repeatable(manifest.experiment.get("target", {})) and HIDDEN not in atomic.dumps(kept)


def resume(manifest: Manifest, out: str, *, seeds: Iterable[int] = (), **options: Any) -> str:
    """Return the command that trains what the directory at `out` lacks, or the Python call if no command can.

    seeds: added to the planned ones. options: others of `sweep resume`, by their Python names.
    """
    every = format_seeds(dict.fromkeys([*manifest.seeds, *seeds]))
    target = manifest.experiment.get("target", {})
    if not repeatable(target):
        name = target["reference"].rpartition(":")[2]
        words = {"out": out, "seeds": every, **options}
        given = "".join(f", {key}={value!r}" for key, value in words.items())
        return f"sweep.run({name if name.isidentifier() else 'train'}, ...{given})"
    if resumable(manifest):
        start, words = f"sweep resume {path_argument(out)}", {"seeds": format_seeds(seeds), **options}
    else:  # its secrets have to be given again
        start, words = "sweep run ...", {"out": out, "seeds": every, **options}
    for key, value in words.items():
        if value:
            start += f" --{key.replace('_', '-')}" + ("" if value is True else f" {path_argument(str(value))}")
    return one_line(start)


def next_commands(store: Store, found: Overview) -> tuple[str, ...]:
    """Return the next commands, the most useful first."""
    here, asked, counts = path_argument(store.shown), store.manifest, found.counts
    several = len(asked.cells) > 1
    if counts.running:
        return (f"sweep watch {here}",)
    if asked.adopted:
        return (f"sweep compare {here}",) if several else (f"sweep report {here} --format latex",)
    if counts.lost or counts.pending or found.changed:
        return (resume(asked, store.shown),)
    if counts.failed:
        return (resume(asked, store.shown, retry_failed=True),)
    if len(asked.seeds) == 1:  # without a spread there is nothing to compare or to print
        return (resume(asked, store.shown, seeds=range(10)),)
    if several:
        return (f"sweep compare {here}",)
    if asked.experiment.get("deterministic") and not asked.stamp and repeatable(asked.experiment["target"]):
        return (f"sweep verify {here}",)
    ensemble = (f"sweep ensemble {here}",) if found.together and "split" not in found.vary else ()
    return (*ensemble, f"sweep report {here} --format latex")
