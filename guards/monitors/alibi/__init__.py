"""The drift tests of alibi-detect as monitors."""
