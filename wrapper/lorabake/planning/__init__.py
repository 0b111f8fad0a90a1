"""The pure heart: from a recipe and facts to a plan, a forecast and the bytes of two files."""
