"""The report as one page: a file of HTML that needs nothing else and asks nobody."""
