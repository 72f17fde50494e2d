"""How well each detector tells foreign rows from clean rows, on models and data of several kinds."""
