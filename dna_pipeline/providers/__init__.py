"""The code that runs stages with models: one file a provider."""
