"""Groups of rows: their counts, and the rates, differences and ratios that the counts make."""
