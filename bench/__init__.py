"""Measurements, each beside a floor from the same run. Nothing here is a test; results go to bench/results.jsonl."""

import warnings

# Said on importing the wheel that brings PostgreSQL; of no use to who measures.
warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
