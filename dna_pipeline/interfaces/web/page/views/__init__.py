"""The views of the page: each reads by operations and renders a template."""
