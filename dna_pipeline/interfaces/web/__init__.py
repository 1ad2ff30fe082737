"""The HTTP server: parses requests, calls operations, and puts their answers into JSON or pages."""
