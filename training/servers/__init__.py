"""Simulated servers, and the training of the network that infers a server from what a load test has seen of it.

`server` runs them (through C, in `simulate.c`), `families` draws them, `truth` finds their capacities, `trials` makes
the evidence that a load test would have, `network` and `train` learn from it. Nothing here is part of the wheel.
"""
