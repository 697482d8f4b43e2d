"""Artifacts on a phone, over adb, and the rows of what devices measured."""
