"""What was measured before: earlier runs of this tool, and results of other tools, as records to learn from.

Another tool's result counts where it proves what a trial would prove: the rate at which this model held the whole SLO,
in a configuration of the space. What does not is left out, counted, and said with its reason. A module per tool.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import TrialRecord
from results.text import counted
from search_spaces.reading import InputError, parsed_json, read_json, read_text, shown
from tuner.errors import SpecError, UsageError
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import read_documents
from tuner.study.storage.archive import Archive
from tuner.study.storage.connection import sqlite_url
from tuner.study.warm_start.aiconfigurator import is_aiconfigurator, read_aiconfigurator
from tuner.study.warm_start.engines import is_engines, read_engines, read_sweep_table
from tuner.study.warm_start.guidellm import read_aiperf, read_guidellm
from tuner.study.warm_start.inference_perf import is_inference_perf, read_inference_perf
from tuner.study.warm_start.llm_d import is_llm_d, read_llm_d
from tuner.study.warm_start.measured import Best
from tuner.study.warm_start.model_analyzer import read_model_analyzer
from tuner.study.warm_start.table import ToolTable

__all__ = ["WarmStart", "read_warm_start"]

_MAX_SHOWN = 3
_STAGES = "stage_*_lifecycle_metrics.json"  # of a run of inference-perf


@dataclass(frozen=True)
class WarmStart:
    """`records` of `read` measurements; `left_out` says of the others why, and how many."""

    name: str
    read: int
    records: tuple[TrialRecord, ...]
    left_out: Mapping[str, int]
    kind: str = "trial"

    @property
    def note(self) -> str:
        """What was read, in a sentence."""
        text = f"{self.name}: read {counted(self.read, self.kind)}"
        if not self.left_out:
            return text
        why = [f"{count} because {reason}" for reason, count in Counter(self.left_out).most_common(_MAX_SHOWN)]
        more = f", and {len(self.left_out) - _MAX_SHOWN} reasons more" if len(self.left_out) > _MAX_SHOWN else ""
        return f"{text}, left out {sum(self.left_out.values())}: {'; '.join(why)}{more}"


def read_warm_start(path: Path, loaded: LoadedSpec) -> WarmStart:
    """The trials of a run's folder, or what another tool's file proves. Raises UsageError where there is nothing."""
    where = f"`warm_start` {shown(path)}"
    if path.is_dir() and (path / "study.db").is_file():
        found = Archive(sqlite_url(path)).snapshot()
        left_out = Counter("they cannot be read" for _ in found.damaged)
        return WarmStart(shown(path), len(found.records) + len(found.damaged), found.records, left_out)
    kind = "trial"
    try:
        if path.is_dir():
            best = _folder(path, loaded, where)
        elif path.suffix.lower() == ".csv":
            table = ToolTable.read(read_text(path))
            kind = "prediction" if is_aiconfigurator(table) else kind
            best = _table(table, loaded)
        else:
            best = _documents(path, loaded, where)
    except InputError as error:
        raise UsageError(f"`warm_start` {error}") from error
    except SpecError as error:
        raise UsageError(f"{where}: {error}") from error
    except csv.Error as error:
        raise UsageError(f"{where} is not a table of Model Analyzer: {error}") from error
    made = WarmStart(shown(path), best.read, best.records(), best.left_out, kind)
    if not made.records:
        raise UsageError(f"`warm_start`: nothing can be learned from {made.note}")
    return made


def _folder(path: Path, loaded: LoadedSpec, where: str) -> Best:
    """What vLLM's sweep or inference-perf leaves in a folder."""
    if (path / "summary.csv").is_file():
        return _table(ToolTable.read(read_text(path / "summary.csv")), loaded)
    stages = [read_json(one) for one in sorted(path.glob(_STAGES))]
    if stages and all(is_inference_perf(one) for one in stages):
        return read_inference_perf(stages, loaded)
    raise UsageError(f"{where}: no study.db in it; name the output folder of an earlier run")


def _table(table: ToolTable, loaded: LoadedSpec) -> Best:
    if is_aiconfigurator(table):
        return read_aiconfigurator(table, loaded)
    if {"request_throughput", "run_number"} <= set(table.columns):
        return read_sweep_table(table, loaded)
    return read_model_analyzer(table, loaded)


def _documents(path: Path, loaded: LoadedSpec, where: str) -> Best:
    """JSON, a document per line (SGLang's .jsonl), or YAML (llm-d's reports)."""
    content: Any
    if path.suffix.lower() in (".yaml", ".yml"):
        content = list(read_documents(path))
    elif path.suffix.lower() == ".jsonl":
        lines = enumerate(read_text(path).split("\n"), 1)
        content = [parsed_json(path, line, number) for number, line in lines if line.strip()]
    else:
        content = parsed_json(path, read_text(path))
    first = content[0] if isinstance(content, list) and content else content
    if is_engines(content):
        return read_engines(content, loaded)
    if is_llm_d(first):
        return read_llm_d(content if isinstance(content, list) else [content], loaded)
    if is_inference_perf(content):
        return read_inference_perf([content], loaded)
    if isinstance(content, dict) and isinstance(content.get("benchmarks"), list):
        return read_guidellm(content, loaded)
    if isinstance(content, dict) and "request_throughput" in content:
        return read_aiperf(content, loaded)
    raise UsageError(
        f"{where}: no result of a tool that is known: GuideLLM, AIPerf, inference-perf, vLLM, SGLang (.json, .jsonl), "
        "llm-d (.yaml, .json), Model Analyzer, AIConfigurator (.csv); an earlier run of tune is named by its folder"
    )
