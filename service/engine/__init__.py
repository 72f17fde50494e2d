"""The engine: takes rows, batches them, runs the guards and the model, and returns answers."""
