"""How much a caller may use: token buckets, in one process or in Redis. It imports no torch, because fronts use it."""
