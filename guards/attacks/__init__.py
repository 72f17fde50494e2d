"""Attackers of a guarded model: what they ask or compute, what they achieve, and when a guard flags them."""
