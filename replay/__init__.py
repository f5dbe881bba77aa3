"""Replay: the timeline re-executed against the reference model, and the verdicts that come of it."""
