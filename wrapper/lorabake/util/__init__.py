"""Mechanism: processes, files, locks, hashing, the language of messages."""
