"""The stage that redraws a picture under a prompt."""
