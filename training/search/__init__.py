"""The surrogate model's training: `prior` makes services up, `train` fits the network and writes its weights.

It measures nobody's server and downloads nothing. Run it as `python -m training.search.train`.
"""
