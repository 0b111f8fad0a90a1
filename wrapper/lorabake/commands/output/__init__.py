"""Findings, plans, records and the book as text: the only place with wording, colour and width. Decides nothing."""
