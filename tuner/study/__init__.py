"""A study: the loop over trials, and where it is kept. The only room that imports Optuna.

It decides when to ask, run and tell; it renders no server and words no recommendation. Public are `loop` (the tuning
loop), `storage` (where it is kept),
`optuna_sampler`, `warm_start.read_warm_start`, `remeasure` (for `tune gate`) and `optuna_dashboard`.
"""
