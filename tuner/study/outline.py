"""What is known of a study before the first trial of a run, for those who show it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from itertools import chain
from pathlib import Path

from tuner.display import BudgetOutline, EarlierTrials, SpaceOutline, StudyOutline
from tuner.launch.checks.runnable import Runnable
from tuner.launch.estimate import estimate_run
from tuner.search.objective import Objective
from tuner.search.stopping import max_trials
from tuner.spec.limited import limited_percentiles
from tuner.spec.reading import LoadedSpec
from tuner.study.budget import Spent
from tuner.study.plan import StudyPlan
from tuner.study.storage.store import StudyStore


def study_outline(loaded: LoadedSpec, store: StudyStore, folder: Path, fit: Runnable, parallel: int) -> StudyOutline:
    """The outline of a run of the study in `store`, in which `fit` can run, `parallel` trials at once."""
    finished, limits, objective = store.records(), store.plan.limits, Objective.of(loaded.spec.objective)
    final = list(chain.from_iterable(store.attributes.confirmations().values()))
    spent = Spent.by(finished, parallel) + Spent.by(final)
    left_s = math.inf if limits.seconds is None else max(0.0, limits.seconds - spent.seconds)
    most = max_trials(store.plan.budget, limited=bool(limits))
    to_go = min(max(0, most - len(finished)), fit.count)
    expected = estimate_run(
        loaded, to_go, fit.configurations, earlier_trials=len(finished), earlier_launches=len(final)
    )  # fmt: skip
    return StudyOutline(
        service=loaded.spec.service.name,
        objective=str(objective),
        slo=", ".join(loaded.slo_texts) or "the table's SLO",
        space=SpaceOutline(len(loaded.space.parameters), str(loaded.space.size)),
        budget=BudgetOutline(
            most,
            open_ended=store.plan.budget is None,
            max_load_s=min(expected.seconds, left_s) if expected else None,
            time_left_s=None if math.isinf(left_s) else left_s,
        ),
        output=folder,
        earlier=EarlierTrials(
            Counter(record.state for record in finished), next(iter(objective.ranked(finished)), None), spent.cost
        ),
        parallel=parallel,
        study=_identity(store.plan),
        limited=limited_percentiles(loaded),
        currency=loaded.spec.prices.currency,
    )


def _identity(plan: StudyPlan) -> str:
    """An id of the study that is the same in every run of it, on whatever machine, and gives nothing of it away."""
    known = plan.provenance.get("study") or json.dumps(dict(plan.provenance), sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:32]
