"""Who may ask: named principals, their keys and scopes. It imports no torch, because fronts use it."""
