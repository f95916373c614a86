"""What a trial says of a language model: a real server with a cache of prefixes, loaded by a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from results.text import figure, milliseconds
from tests.conftest import Tune
from tuner.spec.llm import LlmSpec
from tuner.trial.language import cache_notes, repeat_notes

SERVER = Path(__file__).parents[2] / "servers" / "streaming.py"
SPEC = """\
version: 1
service:
  name: tokens
  command: [python, {server}, --port, "{{port}}", --gap-ms, "{{gap}}", --ttft-ms, "20"]
request:
  path: /v1/completions
  stream: openai
  llm: {{input_tokens: 100, output_tokens: 10}}
slo: {{p90: 3s, ttft: {{p90: 3s}}}}
objective: {{minimize: cost_per_million_output_tokens, final: 0}}
space: {{parameters: {{gap: [5], cpu_cores: {{choices: [1], role: cpu_cores}}}}}}
prices: {{cpu_core_hour: 0.36}}
load: {{max_trial: 15s, max_warmup: 2s}}
runner: {{type: process}}
"""


@pytest.mark.usefixtures("needs_machine")
def test_a_run_says_what_tokens_cost_and_how_fast_they_come(tmp_path: Path, tune_in_process: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.format(server=SERVER))
    done = tune_in_process("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuning" / "tokens"
    recommended = json.loads((folder / "recommendation.json").read_text())
    language, capacity = recommended["language"], recommended["capacity_qps"]["value"]
    assert (language["output_tokens"], language["input_tokens"]) == (10, 100)
    assert language["output_tokens_per_second"] == pytest.approx(10 * capacity)
    assert language["cost_per_million_output_tokens"] == pytest.approx(0.36 / (10 * capacity * 3600) * 1e6)
    assert any("output tokens/s" in reason for reason in recommended["reasons"])
    assert "cost_per_million_output_tokens" in (folder / "trials.csv").read_text().splitlines()[0]
    (trial,) = json.loads((folder / "trials" / "0000" / "probes.json").read_text())["probes"][:1]
    assert trial["tokens"]["output_mean"] == 10
    # Displays have what the SLO limits: the p90 of both times, unless a machine so busy that the generator waited for a
    # core told no times of tokens.
    known = pd.read_csv(folder / "trials.csv").iloc[0]
    named = [("p90", "p90_ms"), *([("first token p90", "ttft_p90_ms")] if language["ttft"] else [])]
    report = (folder / "report.md").read_text()
    for name, column in named:
        assert f"{name} {figure(known[column])} ms" in done.stderr
        assert f"- **{milliseconds(known[column])}** {name} at " in report
        assert f"| {name} |" in report
    assert known["p50_ms"] <= known["p90_ms"] <= known["p95_ms"] <= known["p999_ms"]
    assert " p99 " not in next(line for line in done.stderr.splitlines() if line.startswith("#0 "))


def test_a_user_may_answer_at_once() -> None:
    assert LlmSpec.model_validate({"turns": 3, "think": "0s"}).think == 0
    with pytest.raises(ValidationError, match="think"):
        LlmSpec.model_validate({"turns": 3, "think": "-1s"})


def test_a_cache_that_answers_more_than_was_to_be_shared_is_said() -> None:
    asked = LlmSpec.model_validate({"shared_prefix": "30%"})
    assert cache_notes(asked, 0.32) == ()
    assert cache_notes(asked, None) == ()
    assert cache_notes(None, 1.0) == ()
    (note,) = cache_notes(asked, 0.9)
    assert "90% of the prompts' tokens" in note
    assert cache_notes(LlmSpec(turns=3), 0.9) == (), "turns share what came before them"


def test_a_cache_that_has_less_than_is_shared_is_said() -> None:
    """vLLM on a CPU keeps blocks of 128 tokens: of a prefix of 230 in 256 it has one, which is half of the prompt."""
    (note,) = cache_notes(LlmSpec.model_validate({"shared_prefix": "90%"}), 0.5)
    assert "50% of the prompts' tokens" in note
    assert "blocks" in note


def test_requests_that_mostly_come_from_the_cache_are_said_to_repeat() -> None:
    (note,) = repeat_notes(None, 0.97)
    assert "97%" in note
    assert "request.llm" in note
    assert repeat_notes(None, 0.3) == (), "a system prompt is shared in production too"
    assert repeat_notes(LlmSpec(), 0.97) == (), "that is more than was asked, and is said so"
