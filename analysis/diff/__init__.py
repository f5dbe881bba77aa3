"""Two traces compared: what changed, how sure that is, and what cannot be told."""
