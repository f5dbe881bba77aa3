"""The host recorder: kernel probes and xentrace on a running Xen host, and what they need."""
