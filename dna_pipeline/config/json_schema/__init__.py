"""JSON Schemas of pipeline.yaml and of sidecars, for editors, made from the models that check them.

A schema accepts every file that the loader accepts. It cannot express all that the loader refuses,
such as values that are valid one by one but not together: `dna-pipeline check` finds those.
"""
