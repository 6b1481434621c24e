"""Differential privacy: noise, clipping, accounting and budgets."""
