"""Right values that need a server, load, a cluster or a library's own use: tests of the suite prove them."""

from __future__ import annotations

_REQUEST = "tests/loadtest/request"
_LOCUST = "tests/loadtest/generator/test_locustfile_faults.py"
_MANIFESTS = "tests/runners/kubernetes/test_kubernetes_manifests.py"
_KNOBS = "tests/runners/servers/test_files_that_beat_knobs.py"
_SAFETY = "tests/tuner/test_safety.py"
_SAMPLER = "tests/tuner/study/test_sampler_in_plain_studies.py"

TESTS: tuple[tuple[str, str, str], ...] = (  # the kind, what is right, the test
    (
        "locust-parallel-requests",
        "a failure in a child greenlet, a thread or a callback counts",
        f"{_LOCUST}::test_a_request_that_fails_outside_of_the_tasks_greenlet_fails_the_task",
    ),
    (
        "locust-parsed-options",
        "Locust's options and folder are there",
        f"{_LOCUST}::test_locusts_options_and_folder_are_there",
    ),
    (
        "locust-parsed-options",
        "the file's own error is the spec's",
        f"{_LOCUST}::test_the_files_own_error_is_not_blamed_on_the_server",
    ),
    (
        "fast-server-fails",
        "a generator slower than the server gives a lower bound",
        "tests/loadtest/judge/test_capacity_search.py::test_a_generator_that_is_slower_than_the_server_finds_a_lower_bound",
    ),
    (
        "too-short-trial",
        "too short a time is said to be too short",
        "tests/loadtest/judge/test_server_search.py::test_too_short_a_time_is_said_to_be_too_short",
    ),
    (
        "stream-reasoning-field",
        "delta.reasoning is a token",
        f"{_REQUEST}/test_streams.py::test_what_a_model_thinks_is_tokens_too",
    ),
    (
        "gzip-answer-checked",
        "an answer is decoded before it is checked",
        f"{_REQUEST}/test_hostile_answers.py::test_an_answer_that_comes_in_gzip_passes_its_check",
    ),
    (
        "loadgen-hostile-server",
        "endless headers, 100 Continue, dribbling end in time",
        f"{_REQUEST}/test_hostile_answers.py::test_a_hostile_answer_ends_in_time",
    ),
    (
        "quality-unbounded",
        "the same for the guard, manage, readiness, metrics",
        "tests/runners/host/test_bounded_http.py",
    ),
    (
        "k8s-shell-args",
        "a shell's words are no part of our command",
        f"{_MANIFESTS}::test_a_shells_words_are_no_part_of_our_command",
    ),
    ("k8s-shell-args", "the port named http is the server's", f"{_MANIFESTS}::test_the_port_is_the_one_that_serves"),
    ("k8s-shm-twice", "/dev/shm is mounted once", f"{_MANIFESTS}::test_shared_memory_is_mounted_once"),
    (
        "k8s-shm-twice",
        "their node affinity stays",
        f"{_MANIFESTS}::test_a_gpu_type_is_required_of_nodes_beside_what_the_manifest_requires",
    ),
    (
        "k8s-two-deployments",
        "a key or the container chooses the workload",
        f"{_MANIFESTS}::test_of_several_workloads_one_is_chosen_by_its_name_or_its_container",
    ),
    (
        "kserve-framework-predictor",
        "predictor.sklearn and others are taken",
        f"{_MANIFESTS}::test_a_predictor_of_any_framework_is_tuned_like_a_model",
    ),
    (
        "triton-ensemble-and-sequence",
        "sequences keep one scheduler, oldest",
        f"{_KNOBS}::test_sequences_keep_the_one_scheduler_that_a_model_has",
    ),
    ("triton-export-max-batch-0", "what was loaded is exported", f"{_KNOBS}::test_what_was_loaded_is_what_is_exported"),
    ("sampler-plain-study", "none twice, n_jobs, exhausted, pickled, None", _SAMPLER),
    ("export-traversal", "a study's files stay in --output", f"{_SAFETY}::test_a_files_name_stays_in_its_folder"),
    (
        "export-yaml11",
        "what a YAML 1.1 reader misreads is quoted",
        f"{_SAFETY}::test_exports_are_the_same_to_readers_of_either_version_of_yaml",
    ),
    (
        "clean-pid-reuse",
        "a process with a dead leader's number is spared",
        f"{_SAFETY}::test_a_process_that_got_a_dead_leaders_number_is_spared",
    ),
    (
        "secret-echo",
        "a secret is masked in every form",
        f"{_SAFETY}::test_secrets_are_masked_in_every_form_in_which_they_are_written",
    ),
    (
        "log-unbounded",
        "a log keeps its beginning and its end",
        f"{_SAFETY}::test_a_log_keeps_its_beginning_and_its_end",
    ),
    ("stored-internal", "61 kinds of damage: trial and field are named", "tests/tuner/study/test_damaged_studies.py"),
)
