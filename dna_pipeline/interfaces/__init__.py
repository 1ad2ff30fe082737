"""Interfaces of the program: each parses its input, calls an operation, and prints the result."""
