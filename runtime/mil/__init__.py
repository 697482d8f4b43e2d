"""Evaluates the programs in Core ML packages (MIL) on hosts without Core ML."""
