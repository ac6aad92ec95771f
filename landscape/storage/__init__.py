"""Runs on disk: files written whole or not at all, folders that survive a kill, and what reads them back."""
