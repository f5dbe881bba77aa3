"""Capturing: everything that ends in a trace file."""
