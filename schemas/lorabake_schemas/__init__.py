"""The shapes of everything lorabake reads, decides and writes."""
