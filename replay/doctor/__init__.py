"""The doctor: which ports of a snapshot are stuck or half-open, and why."""
