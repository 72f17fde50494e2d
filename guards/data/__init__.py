"""Reads data files into columns or arrays, and turns columns or arrays into rows of a schema."""
