"""The command line: ``daafl run``, ``report``, ``list`` and ``completion``."""

from daafl.cli.app import main

__all__ = ["main"]
