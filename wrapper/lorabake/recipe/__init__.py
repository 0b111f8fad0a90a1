"""From a recipe file to a validated Recipe."""
