"""The host: recording and asking a running Xen."""
