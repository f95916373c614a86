"""The service spec: the YAML that a user writes, read into checked values, with errors that name file, line and key.

It reads and checks; it launches, measures and prices nothing, and knows no runner. Public are `reading.load_spec` and
`LoadedSpec`, `model.Spec` (with the sections `load`, `request`, `runner`, `quality`), `colocation`, `prices`
(the price catalogues and where they come from), `schema.schema_text`, `quantities` and `yaml_file`.
"""
