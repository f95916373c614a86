"""Servers and queues whose answer is known, to hold the load test against."""
