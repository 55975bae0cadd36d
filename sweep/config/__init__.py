"""Configuration: a YAML file, KEY=VALUE overrides and keyword arguments become one frozen `Config`."""

from sweep.config.dump import to_dict, to_yaml
from sweep.config.explain import explain
from sweep.config.loading import from_dict, load
from sweep.config.redaction import redact
from sweep.config.schema import Checkpoint, Collect, Config, Resources, describe

__all__ = [
    "Checkpoint",
    "Collect",
    "Config",
    "Resources",
    "describe",
    "explain",
    "from_dict",
    "load",
    "redact",
    "to_dict",
    "to_yaml",
]
