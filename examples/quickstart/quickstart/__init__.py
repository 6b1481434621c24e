"""A federation that runs itself, as a Flower app."""
