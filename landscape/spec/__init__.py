"""Runs as plain data: the registry of kinds, objects from tables, whole specifications."""
