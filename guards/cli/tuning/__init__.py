"""``guardhouse tune``: searches a guard's detector, its parameters, its share of the budget, and the features."""
