"""The SQLite database of drops, jobs and what became of them."""
