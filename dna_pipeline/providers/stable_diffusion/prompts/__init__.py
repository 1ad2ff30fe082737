"""Prompts in AUTOMATIC1111's syntax: weights of words, blocks of tokens, and tags."""
