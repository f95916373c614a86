"""Inputs of every kind, mutated with their structure in mind, and what the program makes of them.

`python -m benchmarks.fuzz` runs many of them; `tests/fuzz` a few, drawn by hypothesis.
"""
