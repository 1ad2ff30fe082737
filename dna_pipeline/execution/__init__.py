"""Runs jobs: what may start, orders to the executor, what comes back."""
