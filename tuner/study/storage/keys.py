"""The names under which a study and its trials keep what is ours, in Optuna's storage."""

PLAN = "tune:plan"  # the whole `StudyPlan`; studies from before it have the three that follow
SPEC, PROVENANCE, BUDGET = "tune:spec", "tune:provenance", "tune:budget"
EXPLANATION, STOPPED = "tune:explanation", "tune:stopped"
ENDED = "tune:ended"  # when the last launch so far was over
OUTLOOK = "tune:outlook"  # what the search expected when it ended
CONFIRMATION, CONFIRMATION_EVIDENCE = "tune:confirmation:", "tune:confirmation-evidence:"
RECORD, EVIDENCE = "record", "tune:evidence"
