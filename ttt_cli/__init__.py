"""The command line `ttt`, the only package that imports all others."""

from .main import app, main

__all__ = ["app", "main"]
