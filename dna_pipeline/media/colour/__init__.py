"""Colour spaces, and the way from them to sRGB."""
