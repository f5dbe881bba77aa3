"""Analysis: tables in, numbers and texts out. It makes no verdict of its own."""
