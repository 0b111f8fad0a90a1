"""An archive of a run without what is private."""
