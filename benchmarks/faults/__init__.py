"""Faults, each by really causing it: is anything orphaned, is a finished trial lost, does --resume complete?

`python -m benchmarks.faults` causes them. Each has a small study in real processes, containers or pods of its own
(`study.py`), and is a function of that study (`strikes.py`, `misfortunes.py`).
"""
