"""Statistics of plain arrays: e-values, intervals that hold at every moment, exact sums."""
