"""Judging: whether a rate holds the SLO, how sure that is, and which rate to probe next.

It is arithmetic on plain arrays: it sends nothing, waits for nothing, and imports neither gevent nor Locust. Public are
`search.ServerSearch` with `inference.ServerPosterior` (one server), `capacity.CapacitySearch` (several at once), behind
the seams `capacity.OpinionatedProber` and `capacity.Prober`, `verdict.judge`, `percentile`, `reference` and `tail`.
"""
