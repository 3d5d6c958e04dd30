"""Safetensors files on disk: one table of number formats, one header reader, one header writer; bytes depend on content alone."""
