"""Measures how well a model does on its own rows, and finds what was probably misread if the model does badly."""
