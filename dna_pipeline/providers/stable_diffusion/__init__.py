"""Stable Diffusion, by Diffusers."""
