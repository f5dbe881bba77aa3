"""The forms in which a report is given: text, Markdown, JSON, CSV, and in a notebook."""
