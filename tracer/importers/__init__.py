"""Importers: captures of other tools, joined into one trace."""
