"""Ownership of shards: taken, fenced, turned and let go of."""
