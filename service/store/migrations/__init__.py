"""The store's migrations, which a server runs at its start."""
