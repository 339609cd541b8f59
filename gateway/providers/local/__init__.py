"""The local provider: circuits run on this machine, on simulators that are handed in."""

from gateway.providers.local.provider import LocalProvider
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.simulators import Simulators

__all__ = ["LocalProvider", "LocalSettings", "Simulators"]
