"""The lab: a real Xen under QEMU, booted from Debian's packages (tests/lab/README.md)."""
