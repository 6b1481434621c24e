"""Hydra configuration groups, one per constructor, shipped as package data."""

if __name__ != "daafl.conf":
    # Found through the repository root: a second copy of every class would break `isinstance`.
    raise ImportError("import daafl.conf, not conf")
