"""Measurements, never timed tests: `python -m bench`."""
