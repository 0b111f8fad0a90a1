"""One run, from its new folder to its finished record."""
