"""When requests are due: seeded schedules of an open loop, and traces of real traffic.

It makes times and sends nothing. Public are `arrivals.Arrivals`, `trace.read_trace`, `trace.Trace` and `TraceError`.
"""
