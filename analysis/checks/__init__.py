"""What `evtrace check` knows: expectations, rules, how a trace is held to them, the forms."""
