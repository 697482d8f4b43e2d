"""Runs artifacts, tile by tile, and develops what they return."""
