"""Configuration: a YAML file, KEY=VALUE overrides and keyword arguments become one frozen `Config`."""

from sweep.config.explain import explain
from sweep.config.loading import from_dict, load, to_dict, to_yaml
from sweep.config.schema import Collect, Config, describe

__all__ = [
    "Collect",
    "Config",
    "describe",
    "explain",
    "from_dict",
    "load",
    "to_dict",
    "to_yaml",
]
