"""What the trainer's log says, line by line."""
