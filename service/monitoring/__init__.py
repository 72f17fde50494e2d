"""The live monitors: they observe answered rows and outcomes while the server runs, and have states and reports."""
