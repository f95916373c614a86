"""Which configuration to try next, when to stop, and what to decide: the objective, the stopping rule, the surrogate
model, what is believed of what was measured, the final and the decision.

It takes records and proposes; it launches nothing, stores nothing, and does not know Optuna. Public are
`objective.Objective`, `stopping.why_stop`, `contenders.believed`, `final.next_round`, `decision.decide`, and in
`surrogate` the network's predictions.
"""
