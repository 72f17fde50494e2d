"""What a row of the model's input is, and how values become its numbers."""
