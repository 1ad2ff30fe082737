"""The page for people: what runs, what came out, what is wrong. Rendered here, live by htmx."""
