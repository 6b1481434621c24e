"""How examples are divided among nodes, and where they come from."""
