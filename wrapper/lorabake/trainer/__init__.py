"""The pinned sd-scripts on disk, with a separate Python environment: fetched, installed, found, checked."""
