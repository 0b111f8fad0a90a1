"""Findings, plans, records and the book as text: the only place with wording, color and width. Decides nothing."""
