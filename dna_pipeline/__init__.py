"""A daemon that turns dropped images into restyled pictures and meshes."""

__version__ = "0.1.0"
