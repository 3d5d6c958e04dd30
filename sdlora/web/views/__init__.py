"""Data to HTML."""
