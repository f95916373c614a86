"""The load generator: sends requests on schedule, in one process or several, and runs a load test's phases.

The only room that imports gevent, Locust and geventhttpclient, whose patching belongs in no other process: `__main__`
imports it in the child alone, and it knows no runner. Public are `users.run`, `users.work` and `fleet.GeneratorLost`.
"""
