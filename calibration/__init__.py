"""Tensor ranges from brackets, collected once for every target."""
