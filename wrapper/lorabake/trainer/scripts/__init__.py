"""Scripts that run in the trainer's own Python, with torch and sd-scripts; lorabake itself never imports them."""
