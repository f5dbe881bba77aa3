"""Conformance: recorded answers of Xen's own code, run through the model and compared."""
