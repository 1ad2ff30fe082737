"""The process behind `watch` and `run`."""
