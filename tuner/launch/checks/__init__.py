"""Checks of a spec before any server is launched: what is wrong, what is seldom meant, what cannot run here.

It launches and measures nothing. Public are `before_launch.check`, `warnings` and `hints`, `runnable.runnable` and
`runnable.why_refused`.
"""
