"""Which configuration to try next, and when to stop: the objective, the stopping rule and the surrogate model.

It takes records and proposes; it launches nothing, stores nothing, and does not know Optuna. Public are
`objective.Objective`, `stopping.why_stop`, and in `surrogate` the network's predictions (the only room with PyTorch).
"""
