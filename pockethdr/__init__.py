"""PocketHDR takes dynamic-kernel HDR networks from PyTorch to phone runtimes."""

__version__ = "0.1.0"
