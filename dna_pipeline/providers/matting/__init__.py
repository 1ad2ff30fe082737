"""Models and rules that cut a subject out of its background."""
