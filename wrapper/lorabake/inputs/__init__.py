"""What the user brings: images, captions, the base model, caches."""
