"""From a study and its spec to what can be exported: the recommended configuration, rendered as for a container."""

from __future__ import annotations

from results import StudySummary
from results.exports import Deployable
from results.series import recommended_curve
from runners import Placement
from tuner.errors import UsageError
from tuner.render import ready_path, ready_timeout_s, rendered_texts, resources, roles
from tuner.serving import image_of
from tuner.spec_file import LoadedSpec

_PORT, _FILES = 8000, "/etc/tune"


def deployable(study: StudySummary, loaded: LoadedSpec, qps: float | None = None) -> Deployable:
    """`qps` is the traffic that replicas are for; without it the objective's, where it has one.

    Raises UsageError where no configuration held the SLO, SpecError where a template is not beside the spec any more.
    """
    best = study.recommendation
    if best.configuration is None or best.capacity_qps is None or best.trial is None:
        raise UsageError(
            f"no configuration of {study.service} held its SLO, so there is nothing to export\n"
            "report.md says what was found; a longer run (--budget) or a wider SLO may find one"
        )
    from runners.kubernetes.objects import resource_section
    from tuner.runner_choice import kubernetes_options

    spec, asked = loaded.spec, resources(loaded.space, best.configuration)
    options = kubernetes_options(loaded)
    port = options.port or _PORT
    record = study.latest(next(one for one in study.records if one.number == best.trial))
    curve = recommended_curve(study)
    texts = rendered_texts(loaded, best.configuration, Placement("0.0.0.0", port, _FILES))  # noqa: S104 (in a container)
    selector = dict(options.node_selector)
    if asked.gpu_type is not None:
        selector[options.gpus.type_label] = options.gpus.label_values(asked.gpu_type)[0]
    return Deployable(
        service=spec.service.name,
        configuration=best.configuration,
        image=image_of(loaded),
        command=texts.command,
        env={**options.gpus.asked(asked.gpu_type, asked.gpu_memory)[1], **texts.env},
        files=texts.files,
        files_folder=_FILES,
        port=port,
        https=spec.request.tls is not None,
        ready_path=ready_path(loaded),
        ready_timeout_s=ready_timeout_s(loaded),
        requests=resource_section(asked, options).get("requests", {}),
        cpu_cores=asked.cpu_cores,
        memory_bytes=asked.memory_bytes,
        gpu_type=asked.gpu_type,
        node_selector=selector,
        tolerations=options.tolerations,
        shm_bytes=options.shm_bytes,
        capacity=best.capacity_qps,
        knee_qps=curve.knee_qps if curve else None,
        p50_ms=record.p50_ms,
        cores_used=record.cpu_cores_used,
        limit=" and ".join(study.slo) or "the SLO",
        confirmed=best.confirmed,
        qps=qps if qps is not None else spec.objective.target_qps,
        roles=roles(loaded.space, best.configuration),
    )
