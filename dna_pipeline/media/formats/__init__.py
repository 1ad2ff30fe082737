"""File formats of images, and what to say of files that are none."""
