"""The nodes' side of a federation: Flower client apps built from a task."""

if __name__ != "daafl.clients":
    # Found through the repository root: a second copy of every class would break `isinstance`.
    raise ImportError("import daafl.clients, not clients")
