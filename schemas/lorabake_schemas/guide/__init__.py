"""The training guide: its rules, its book, its vocabularies."""
