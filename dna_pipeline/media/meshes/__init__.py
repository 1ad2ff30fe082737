"""Meshes: geometry, drawing, files."""
