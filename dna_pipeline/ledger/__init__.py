"""Ledger: the SQLite database of drops, jobs and their ends."""
