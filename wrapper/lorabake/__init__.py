"""lorabake: from a recipe to a real kohya sd-scripts run."""

__version__ = "0.1.0"
