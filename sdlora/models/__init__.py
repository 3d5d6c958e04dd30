"""Base models: which there are, what family they are of, how they are loaded."""
