"""From a study and its spec to what can be exported: the recommended configuration, rendered as for a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from results import Estimate, LanguageRecord, Recommendation, StageRecord, StudySummary, TrialRecord
from results.exports import Deployable, called_at, listens_at, to_replace
from results.exports.deployable import DeployedProgram, Listening, MeasuredReplica
from results.series import latency_curve
from runners import Placement
from search_spaces import Configuration
from search_spaces.reading import shown
from tuner.errors import UsageError
from tuner.launch.adapter import image_of, mounted_model, serving
from tuner.launch.render import ready_path, ready_timeout_s, rendered_texts, resources, roles
from tuner.outcome.needs import needed
from tuner.outcome.workload import measured_workload
from tuner.search.objective import undecided
from tuner.spec.reading import LoadedSpec, load_spec

_UNSEEN = StageRecord(name="")
_FILES = "/etc/tune"


def deployables(
    study: StudySummary, loaded: LoadedSpec, qps: float | None = None, trial: int | None = None, *,
    format_name: str = "kubernetes",
) -> dict[str, Deployable]:  # fmt: skip
    """Every service by its name; the only one has none. `qps` is the traffic that replicas are for, that of all
    services together; without it the objective's, where it has one. `trial` is another than the recommended one.
    Services of a chain call each other where they are reached in the format of that name.

    Raises UsageError where no configuration held the SLO, or that trial's did not, SpecError where a template is not
    beside the spec any more.
    """
    best, capacity = _chosen(study, trial)
    confirmed = any(one.state == "complete" for one in study.launches.confirmations.get(best.number, ()))
    doubt = _doubt(study.recommendation) if best.number == study.recommendation.trial else ""
    _check_templates(loaded)
    qps = qps if qps is not None else loaded.spec.objective.target_qps
    if not loaded.colocated:
        evidence = study.evidence.get(best.number)
        curve = None if evidence is None else latency_curve(study, best.number, evidence)
        knee_qps = curve.knee_qps if curve else None
        used = _AtCapacity(
            capacity, best.latency.p50_ms, _cores_at_capacity(best, capacity), confirmed, knee_qps, best.language, doubt
        )
        return {"": _deployable(loaded, best.configuration, used, qps, format_name=format_name)}
    measured = {one.name: one for one in best.services}
    stages = {one.name: one for one in best.chain.stages} if best.chain else {}
    found = {}
    for service in loaded.colocated:
        one = measured.get(service.name)
        cores_used = (one or stages.get(service.name, _UNSEEN)).cpu_cores_used
        own = Estimate(**{end: getattr(capacity, end) * service.share for end in ("value", "low", "high")})
        used = _AtCapacity(own, one.p50_ms if one else None, cores_used, confirmed, doubt=doubt)
        own_qps = None if qps is None else qps * service.share
        found[service.name] = _deployable(
            service.loaded, service.own(best.configuration), used, own_qps,
            format_name=format_name,
        )  # fmt: skip
    return found


def _cores_at_capacity(best: TrialRecord, capacity: Estimate) -> float | None:
    """The cores that the capacity takes, in proportion to those that were in use at the highest rate that held: that is
    below it.
    """
    seen_qps, used = best.latency.latencies_at_qps, best.use.cpu_cores_used
    return used * capacity.value / seen_qps if used is not None and seen_qps else used


def _chosen(study: StudySummary, trial: int | None) -> tuple[TrialRecord, Estimate]:
    """The trial with that number (None: the recommended one) and its capacity. Raises UsageError for a trial that
    did not hold the SLO.
    """
    number = study.recommendation.trial if trial is None else trial
    if number is None:
        raise UsageError(study.recommendation.trials.nothing_to("export", study.service))
    found = next((study.latest(one) for one in study.records if one.number == number), None)
    if found is None or found.state != "complete" or found.capacity_qps is None:
        held = [str(one.number) for one in study.records if study.latest(one).state == "complete"]
        how = "was too short to tell" if found is not None and undecided(found) else "held no SLO here"
        raise UsageError(f"`trial` {number} {how}; these held it: {', '.join(held)}")
    return found, found.capacity_qps


def _check_templates(loaded: LoadedSpec) -> None:
    """A stored study names its spec by a path, and templates lie beside that. They are read where the spec is there and
    names the same ones: a study that came from elsewhere must not have files of this machine written into its export.
    """
    wanted = {one.name: dict(one.loaded.spec.service.files) for one in loaded.services}
    if not any(wanted.values()):
        return
    try:
        there = load_spec(loaded.file.path)
        found = {one.name: dict(one.loaded.spec.service.files) for one in there.services}
    except UsageError:
        found = {}
    if found != wanted:
        raise UsageError(
            f"the templates of service.files lie beside the spec, and {shown(loaded.file.path)} is not there any more, "
            "or names others\nExport where the run was made, or run again with the spec as it is now."
        )


class _AtCapacity(NamedTuple):
    """What one service showed at its capacity, and whether on more than one launch (`confirmed`). `knee_qps` is the
    rate from which its latency climbs, where the curve is known, `doubt` what the decision leaves open.
    """

    capacity: Estimate
    p50_ms: float | None
    cores_used: float | None
    confirmed: bool
    knee_qps: float | None = None
    language: LanguageRecord | None = None
    doubt: str = ""

    def of_one(self, replicas: int) -> _AtCapacity:
        """What each of so many equal replicas showed of it, behind whatever shared the requests among them."""
        own = {end: getattr(self.capacity, end) / replicas for end in ("value", "low", "high")}
        used, knee = self.cores_used, self.knee_qps
        return self._replace(
            capacity=Estimate(**own),
            cores_used=None if used is None else used / replicas,
            knee_qps=None if knee is None else knee / replicas,
        )


def _doubt(best: Recommendation) -> str:
    """What the decision leaves open, for whoever sees the manifest alone; empty if nothing."""
    if best.decision != "uncertain":
        return ""
    if best.doubt is not None:
        return f"uncertain, since {best.doubt}"
    if best.saving is not None:
        return "uncertain: it may be no better than the current configuration"
    return "uncertain: another configuration that was measured may be better"


def _model_note(loaded: LoadedSpec) -> str:
    """Where the container must find a model that lies on this machine."""
    return "".join(f"the model {source.name} has to be at {target}" for target, source in mounted_model(loaded).items())


def _own_mounts(measured: LoadedSpec) -> Mapping[str, str]:
    """Path in the container -> path here, as the spec says it; nothing where no container was measured here."""
    runner = measured.spec.runner
    return runner.docker.mounts if runner.type == "docker" else {}


def _mounts(measured: LoadedSpec) -> dict[str, str]:
    """The same by their whole paths, and a model of this machine with them."""
    if measured.spec.runner.type != "docker":
        return {}
    own = {target: measured.folder / source for target, source in _own_mounts(measured).items()}
    return {target: str(source) for target, source in (mounted_model(measured) | own).items()}


def _servers_beside_each_other(measured: LoadedSpec, exported: LoadedSpec, configuration: Configuration) -> int:
    """How many were measured together, each as the exported one is. A process, a container or a pod is launched once:
    that one makes its copies itself, and so does one whose command, environment or files say how many.
    """
    parameter, runner = exported.space.with_role("replicas"), measured.spec.runner
    if parameter is None or runner.as_processes or runner.in_containers:
        return 1
    placement = Placement("127.0.0.1", 1, _FILES, more=(3, 4))
    counts = ({**configuration, parameter.name: count} for count in (1, 2))
    one, other = (rendered_texts(exported, each, placement) for each in counts)
    return int(configuration[parameter.name]) if one == other else 1


def _is_told_its_port(loaded: LoadedSpec, configuration: Configuration) -> bool:
    """Whether its command, environment or files change with it."""
    at = (Placement("127.0.0.1", port, _FILES, more=(3, 4)) for port in (1, 2))
    one, other = (rendered_texts(loaded, configuration, placement) for placement in at)
    return one != other


def _metrics_port(loaded: LoadedSpec, placement: Placement) -> int | None:
    """Where its adapter has the server answer Prometheus; None where the spec starts it in its own way."""
    found, own = serving(loaded), loaded.spec.service
    if found is None or found.adapter.metrics_port is None or own.command or own.files:
        return None
    return found.adapter.metrics_at(placement)


def _deployable(
    loaded: LoadedSpec, configuration: Configuration, measured: _AtCapacity, qps: float | None, *,
    format_name: str = "kubernetes",
) -> Deployable:  # fmt: skip
    """One service with that configuration, as it would be launched in a container and exported in that format."""
    from tuner.launch.runner import kubernetes_options

    as_measured, asked = loaded, resources(loaded.space, configuration)
    theirs = measured_workload(loaded, configuration, asked)
    if not loaded.spec.runner.in_containers:
        # This machine's paths and environments are of no use there; a container has its own.
        loaded = loaded.with_runner("docker")
    spec, options = loaded.spec, kubernetes_options(loaded)
    copies = _servers_beside_each_other(as_measured, loaded, configuration)
    measured = measured.of_one(copies) if copies > 1 else measured
    told = _is_told_its_port(loaded, configuration)
    port = listens_at(format_name, options.port or theirs.port, told=told)
    placement = Placement("0.0.0.0", port, _FILES)  # noqa: S104 (in a container)
    called = {name: f"http://{called_at(format_name, name, port)}" for name in loaded.calls}
    texts = rendered_texts(loaded, configuration, placement, called)
    found = needed(asked, options, as_measured)
    replace_them = to_replace(format_name) if called else ""
    notes = [theirs.note, measured.doubt, texts.note, _model_note(loaded), replace_them, *found.notes]
    notes += [f"{copies} replicas were measured together, and all figures are those of one"] if copies > 1 else []
    notes += [f"{source} was mounted at {target}" for target, source in _own_mounts(as_measured).items()]
    own_pod = theirs.workload is not None and theirs.workload.file is not None
    return Deployable(
        service=spec.service.name,
        configuration=configuration,
        program=DeployedProgram(
            spec.service.image if own_pod else image_of(loaded), texts.command, {**found.env, **texts.env},
            spec.service.secrets, texts.files, _FILES, _mounts(as_measured),
            *((options.image_pull_secrets, options.service_account) if as_measured.spec.runner.in_cluster else ()),
        ),
        listens=Listening(
            port, spec.request.tls is not None, ready_path(loaded), ready_timeout_s(loaded), fixed=not told,
            metrics_port=_metrics_port(loaded, placement),
        ),
        needs=found.needs,
        measured=_as_replica(measured, loaded),
        notes=tuple(note for note in notes if note),
        qps=qps,
        called=loaded.is_called,
        roles=roles(loaded.space, configuration),
        workload=theirs.workload,
    )  # fmt: skip


def _as_replica(measured: _AtCapacity, loaded: LoadedSpec) -> MeasuredReplica:
    language = measured.language
    return MeasuredReplica(
        capacity=measured.capacity,
        knee_qps=measured.knee_qps,
        p50_ms=measured.p50_ms,
        cores_used=measured.cores_used,
        limit=" and ".join(loaded.slo_texts) or "the SLO",
        confirmed=measured.confirmed,
        good=language.good if language else None,
        good_of=language.good_of if language else None,
        energy_wh=language.energy_per_million_output_tokens if language else None,
    )
