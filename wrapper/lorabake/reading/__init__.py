"""The outside world as facts: recipes, pictures, captions, models, the machine. Writes nothing."""
