"""The command line: `sagabus …`."""
