"""Measurements, each beside a floor from the same run. Nothing here is a test; results go to bench/results.jsonl."""
