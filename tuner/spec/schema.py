"""The spec's JSON Schema, published as docs/spec.schema.json so that editors complete a spec."""

from __future__ import annotations

import json

from tuner.spec.model import Spec


def schema_text() -> str:
    """JSON, two spaces, a newline at the end."""
    schema = Spec.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tune service spec", **schema}
    return json.dumps(schema, indent=2, sort_keys=False) + "\n"
