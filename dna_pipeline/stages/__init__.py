"""The steps that a pipeline is made of: one file a stage."""
