"""A handler: how it is declared, what it gets, how it is run, and what became of it."""
