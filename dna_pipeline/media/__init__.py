"""Images, meshes and films: codecs, geometry, rendering. Knows no model and no job."""
