"""What attacks by queries achieve against a guard with memory, and what honest clients notice of the guard."""
