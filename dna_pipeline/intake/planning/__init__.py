"""Finds out what the files of an inbox ask for."""
