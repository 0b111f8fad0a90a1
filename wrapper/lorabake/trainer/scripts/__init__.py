"""Scripts that run in the trainer's own Python, beside torch and sd-scripts; lorabake itself never imports them."""
