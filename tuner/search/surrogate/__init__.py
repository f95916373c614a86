"""A network that has seen many made-up services, and predicts a new one from its first few trials.

It computes with numpy, and `training.search` trains in PyTorch. It predicts and explains; it reads no file but its own
weights, and which configuration is tried is decided elsewhere. Public are `mixture`, `acquisition`, `explain` and
`space`; `training.search` makes the weights.
"""
