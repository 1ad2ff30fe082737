"""Files that people write: pipeline.yaml, sidecars, job files and tables, checked and resolved."""
