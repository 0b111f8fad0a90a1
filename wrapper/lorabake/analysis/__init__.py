"""Questions about recipes, runs and LoRAs, answered without changing anything."""
