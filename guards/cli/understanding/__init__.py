"""What fit has understood of a model and its files, how accurate the model is, and likely misreadings."""
