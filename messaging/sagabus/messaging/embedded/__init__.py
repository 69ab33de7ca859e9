"""A bus and a database of a host's own, and where it says that they are."""
