"""Explanations of rows, as JSON objects and as pictures."""
