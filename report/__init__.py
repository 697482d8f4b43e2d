"""Judges artifacts against the PyTorch reference and reports what they lost."""
