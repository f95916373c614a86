"""Probes: one stretch of load on one server, watched while it runs and ended as soon as its verdict is sure.

`endpoint` is what loads a server, `prober` runs a probe on it, `criteria` says what a request is held to, `look`
gathers the evidence while load goes on, `record` makes the probe's record when it is over. It knows no search: which
rate is probed next is decided elsewhere.
"""
