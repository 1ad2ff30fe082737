"""The endpoints of the web backend that this program grew from, for the programs that call them.

They take what that backend took, with more names and forms, and answer in its shapes; what this
program has to say beyond that stands in further keys.
"""
