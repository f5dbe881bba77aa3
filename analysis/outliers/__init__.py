"""Outliers: the longest ways to a handler, and where their time went."""
