"""An adapter per inference server: how it is launched, which of its knobs can be tuned, what its metrics say.

Each is a module of its own behind `runners.servers.protocol` and is loaded by name (`runners.servers.registry`); none
knows another, and none starts a server.
"""
