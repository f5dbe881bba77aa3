"""The interleaving: what vCPUs did side by side, drawn in ASCII."""
