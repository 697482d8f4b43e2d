"""Exact graph rewrites, one file each: pattern, check, rewrite."""
