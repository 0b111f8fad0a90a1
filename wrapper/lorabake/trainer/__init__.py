"""The pinned sd-scripts on disk, with a Python of its own: fetched, installed, found, checked."""
