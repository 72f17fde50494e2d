"""Rules that a user declares across columns, such as ``end >= start``: a small closed language, and its evaluation."""
