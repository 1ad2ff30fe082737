"""Helpers that every room may use: errors, files, names, times, logs, pipes between processes."""
