"""Configuration: what can be chosen, composed by Hydra, checked, and made into objects."""
