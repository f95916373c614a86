"""From a configuration to a launch: the rendered server, its requests, its checks before a trial, and its price.

It renders, checks and prices; it measures nothing and chooses no configuration. Public are `render` (configuration to
container), `adapter` (what the serving adapter adds), `requests` (what is sent), `prepare`, `runner.make_runner`,
`quality`, `checks`, `price.price_of` and `estimate.estimate_run`.
"""
