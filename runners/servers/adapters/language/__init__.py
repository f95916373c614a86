"""Adapters of servers for language models: those that write tokens, and those that turn text into vectors.

Each is a module of its own behind `runners.servers.protocol`, loaded by name (`runners.servers.registry`).
"""
