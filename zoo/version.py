"""Which version of the zoo this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lightning-zoo")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"
