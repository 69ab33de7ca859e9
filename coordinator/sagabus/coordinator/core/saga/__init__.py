"""One saga: its state, its code, and what follows from each input."""
