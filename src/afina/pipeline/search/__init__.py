"""A search: many runs over the same rows and tokens, the best of them, and what its lead is worth."""
