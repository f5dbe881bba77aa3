"""The emulator: a small machine that behaves like a Xen host (docs/emulator.md)."""
