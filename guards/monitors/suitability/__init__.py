"""Whether recent rows of a table do harm to the model's accuracy, answered before any label comes."""
