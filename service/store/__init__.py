"""The store: a database of answered rows, their outcomes and the monitors' totals, which survives a restart."""
