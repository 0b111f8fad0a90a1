"""Commands that start sd-scripts, alone or in a script."""
