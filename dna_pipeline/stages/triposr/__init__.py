"""The stage that makes a mesh from a picture, and a film of the mesh."""
