"""Recipes that ship with lorabake, one TOML file each."""
