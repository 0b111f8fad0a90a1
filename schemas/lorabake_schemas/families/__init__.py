"""What differs between SD1.5, SD2 and SDXL."""
