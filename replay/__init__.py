"""Replay: the timeline re-executed against the reference model; verdicts come of it."""
