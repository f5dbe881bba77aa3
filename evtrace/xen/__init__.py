"""Xen's event channels in Python: the reference that replay and emulator share.

Start with `machine.Machine`; `docs/model.md` tells the rules with examples.
"""
