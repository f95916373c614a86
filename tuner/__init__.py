"""The tuner: command line, service spec, tuning loop, trial, objective, sampler, prices, recommendation.

It steers the other rooms and is known by none of them. It never sends a request itself, never imports Locust, Docker or
Kubernetes, and writes no HTML. Optuna is imported in `tuner.study` alone, PyTorch in `tuner.search.surrogate`.
"""

__version__ = "0.1.0"
