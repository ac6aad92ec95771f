"""Estimates with their errors and descriptions, for every probe."""
