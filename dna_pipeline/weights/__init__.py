"""Files of models: their hashes and licences."""
