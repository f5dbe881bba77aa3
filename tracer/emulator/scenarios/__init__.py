"""Scenarios that come with evtrace: one file each, one function of the file's name."""
