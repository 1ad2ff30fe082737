"""What people write: pipeline.yaml and the sidecars, checked and resolved."""
