"""Safetensors files on disk: headers without torch, tensors read in the wanted dtype, bytes that depend on content alone."""
