"""Train a model over many seeds and report honestly what the spread means.

In the order of the flow:

- `run(config, seeds=[42, 123, 456])` trains what is missing and returns `Results`
- `open("runs/digits-mlp")` reads them again, on any machine, without Ray or a GPU
- `adopt(frame, seed="seed", variant="method")` imports existing results
- `load_ensemble("runs/digits-mlp")` is one torch module of all finished members
- `recipe(model=..., data=data.arrays(x, y))` makes a `Recipe` of your own parts for the built-in loop
- `Run` is the first argument of a training function; `Config` is the content of a YAML file
- `SweepError` is the base of all our errors
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep import data as data
    from sweep.config import Config as Config
    from sweep.ensemble.load import load_ensemble as load_ensemble
    from sweep.errors import SweepError as SweepError
    from sweep.handle import Run as Run
    from sweep.results import Results as Results
    from sweep.results import adopt as adopt
    from sweep.results import open as open
    from sweep.results import run as run
    from sweep.train.data import Dataset as Dataset
    from sweep.train.data import Split as Split
    from sweep.train.recipe import Recipe as Recipe
    from sweep.train.recipe import adamw as adamw
    from sweep.train.recipe import recipe as recipe
    from sweep.train.recipe import sgd as sgd
    from sweep.train.scoring import Scoring as Scoring

__version__ = "0.1.0"

_HOMES = {
    "Config": "sweep.config",
    "Run": "sweep.handle",
    "run": "sweep.results",
    "open": "sweep.results",
    "adopt": "sweep.results",
    "Results": "sweep.results",
    "load_ensemble": "sweep.ensemble.load",
    "SweepError": "sweep.errors",
    "recipe": "sweep.train.recipe",
    "adamw": "sweep.train.recipe",
    "sgd": "sweep.train.recipe",
    "Recipe": "sweep.train.recipe",
    "Dataset": "sweep.train.data",
    "Split": "sweep.train.data",
    "Scoring": "sweep.train.scoring",
}

__all__ = [*sorted([*_HOMES, "data"])]


def __getattr__(name: str) -> Any:
    # Lazy: `import sweep` is fast; torch, ray and pandas are loaded only when they are needed.
    if name == "data":
        return import_module("sweep.data")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
