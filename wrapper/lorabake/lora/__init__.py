"""LoRA files: metadata, network, comparison."""
