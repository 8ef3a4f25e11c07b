"""
The YAML file and the environment, read once into a frozen value.
"""

from relay_middleware.config.loading import load_config
from relay_middleware.config.values import Config

__all__ = ["Config", "load_config"]
