"""Will a language model fit: what its files say that it needs, against the memory that a configuration gives it.

It reads headers, never weights, and launches nothing. Public are `fit.misfit` and `fit.fit_lines`.
"""
