"""Will a language model fit? Compares what its files say that it needs with the memory that a configuration gives it.

It reads headers, never weights, and launches nothing. Public are `fit.misfit` and `fit.fit_lines`.
"""
