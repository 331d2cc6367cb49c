"""cfg_from_yaml_file: paths count from the working directory."""

import yaml
from easydict import EasyDict


def cfg_from_yaml_file(cfg_file, config):
    """Read a yaml file into ``config``."""
    with open(cfg_file) as file:
        _merge(config, yaml.safe_load(file))
    return config


def _merge(config, new):
    if "_BASE_CONFIG_" in new:
        with open(new["_BASE_CONFIG_"]) as file:
            config.update(EasyDict(yaml.safe_load(file)))
    for key, value in new.items():
        if isinstance(value, dict):
            _merge(config.setdefault(key, EasyDict()), value)
        else:
            config[key] = value
