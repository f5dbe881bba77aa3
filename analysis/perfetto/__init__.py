"""A replayed trace as a file for the Perfetto UI."""
