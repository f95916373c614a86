"""Training of the networks that ship with the tuner, on made-up services; it is not part of the wheel.

It may import everything of the product; nothing of the product imports it. `search` trains the surrogate model,
`servers` the network that infers a server from a load test.
"""
