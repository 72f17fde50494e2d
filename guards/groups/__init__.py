"""Groups of rows: their integer tables, and the rates, differences and ratios that these make."""
