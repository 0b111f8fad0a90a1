"""A first try for people who have nothing yet: the quickstart."""
