"""The command line: ``daafl run``, ``report``, ``explain``, ``replay``, ``list`` ..."""

from daafl.cli.app import main

__all__ = ["main"]
