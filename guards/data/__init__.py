"""Reading data files: from a path to columns or arrays, and from those to rows of a schema."""
