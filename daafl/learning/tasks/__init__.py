"""Tasks that ship with daafl; none needs a network."""
