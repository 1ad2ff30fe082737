"""The live view of `watch` and `status --watch`: daemon and queue on a terminal."""
