"""Judging: whether a rate holds the SLO, how sure that is, and which rate to probe next.

It is arithmetic on plain arrays: it sends nothing, waits for nothing, and imports neither gevent nor Locust. Public
are `verdict.judge`, `capacity.CapacitySearch` behind the seam `capacity.Prober`, `percentile`, `reference` and `tail`.
"""
