"""Finds and removes what a crash leaves: who owns what was started (`ownership`), and its removal (`cleanup`,
`process_tree`).

It ends what carries our marks and whose owner is gone, and never anything else. Public are
`cleanup.remove_leftovers`, the leases and marks of `ownership`, and `process_tree`.
"""
