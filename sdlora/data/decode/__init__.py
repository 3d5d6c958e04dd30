"""Untrusted pictures are decoded in a child process with limits."""
