"""The checks of `dna-pipeline doctor`: may jobs run on this machine, and if not, what to do.

`machine.py` gathers the facts, some of them by trials in child processes (`trials.py`). Each check
is a function from these facts to findings, so that tests can describe any broken machine.
"""
