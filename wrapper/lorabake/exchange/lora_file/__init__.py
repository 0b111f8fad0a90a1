"""LoRAs whose recipe is lost."""
