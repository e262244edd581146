"""Synthetic and recorded speech for nano, with word times."""
