"""The stage that makes a mesh of a picture, and a film of it."""
