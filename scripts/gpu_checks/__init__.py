"""The checks of `check_gpu.py`, a subject a file.

A module of checks has a tuple `CHECKS`: name and function of each. A function takes a `Setting`,
gives what it measured, and raises `Failed` or `Skipped` with the reason.
"""
