"""The trace file: xentrace's format as it really is, plus evtrace's own record family."""
