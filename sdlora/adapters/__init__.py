"""Adapters in a base: which layers get them, one file per kind, and their strength."""
