"""What a LoRA file tells of itself: by its tensors, and by its metadata."""
