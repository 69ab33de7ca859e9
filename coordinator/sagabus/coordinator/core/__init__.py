"""What decides: history and inputs in, history and messages out. No clock, chance, I/O or bus, ever."""
