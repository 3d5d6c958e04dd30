"""Adapters: where they go, how they are injected, how they are written."""
