"""The configuration: read once, typed, frozen, and passed on; :func:`load` is the way in."""

from shake.config.config import Config
from shake.config.filter import ScanFilter
from shake.config.kinds import ReadBudget
from shake.config.load import Loaded, load
from shake.config.secrets import Redactor

__all__ = ["Config", "Loaded", "ReadBudget", "Redactor", "ScanFilter", "load"]
