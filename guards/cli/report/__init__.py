"""``guardhouse report``: one page about a model, its data and its guards, for a reviewer of risks."""
