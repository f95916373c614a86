"""One request: what is sent (`bodies`, `auth`, `v2`), what comes back (`reply`, `streams`), whether it is right.

It builds and checks; it opens no connection, so it imports neither gevent nor Locust. Public are `bodies.read_bodies`,
`auth.secret_headers`, `answers.checker`, `request_check.check_request`, `v2.infer_request`, `reply.Reply` and
`sent.Sent` (what became of the requests of a probe).
"""
