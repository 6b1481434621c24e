"""The loop core: what every autonomous part of the federation runs on.

Standard library and numpy only, so that every loop is tested without Flower or torch. A loop is a
`Policy` in a `Loop`; a `Hub` runs the loops of one scope; a `Journal` holds what they decided.
"""
