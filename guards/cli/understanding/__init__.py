"""What fit has understood of a model and its files, how well the model does so, and what a misreading looks like."""
