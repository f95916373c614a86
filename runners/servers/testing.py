"""The contract that every server adapter keeps, as tests. Ships with the package, for other people's adapters too.

Inherit `AdapterContract` in a test module and fill in its one fixture:

    class TestMyServer(AdapterContract):
        @pytest.fixture
        def case(self):
            return AdapterCase(MyServer(), Model("digits", "models/digits"))
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from runners.protocol import Placement
from runners.servers.protocol import AdapterError, Model, ServerAdapter, ServerCommand, Values

HERE = Placement("127.0.0.1", 8123, "/etc/files", (8124, 8125), "/tmp/scratch")  # noqa: S108 (nothing is written)


@dataclass(frozen=True)
class AdapterCase:
    """An adapter, and a model that it takes; the model need not be there."""

    adapter: ServerAdapter
    model: Model


class AdapterContract:
    """What `runners.servers.protocol` promises, held by whatever the fixture `case` gives."""

    @pytest.fixture
    def case(self) -> AdapterCase:
        """Fill this in."""
        raise NotImplementedError

    def test_it_says_what_it_is(self, case: AdapterCase) -> None:
        assert case.adapter.name == case.adapter.name.lower()
        assert case.adapter.title
        assert case.adapter.documentation.startswith("https://")
        path = case.adapter.ready_path(case.model)
        assert path is None or path.startswith("/")

    def test_knobs_have_names_of_their_own_and_choices(self, case: AdapterCase) -> None:
        names = [knob.name for knob in case.adapter.knobs]
        assert len(set(names)) == len(names)
        assert all(len(knob.choices) > 1 for knob in case.adapter.knobs)

    def test_a_launch_needs_no_knob_and_tells_the_server_where_to_listen(self, case: AdapterCase) -> None:
        case.adapter.check(case.model, {})
        made = case.adapter.launch(case.model, {}, HERE)
        assert made.command
        assert str(HERE.port) in _text(made)

    def test_every_choice_of_every_knob_reaches_the_server(self, case: AdapterCase) -> None:
        for knob in case.adapter.knobs:
            made = {_text(case.adapter.launch(case.model, {knob.name: value}, HERE)) for value in knob.choices}
            assert knob.live or len(made) == len(knob.choices), knob.name

    def test_a_configuration_is_launched_alike_each_time(self, case: AdapterCase) -> None:
        values: Values = {knob.name: knob.choices[-1] for knob in case.adapter.knobs}
        case.adapter.check(case.model, values)
        first, second = (case.adapter.launch(case.model, values, HERE) for _ in range(2))
        assert first == second

    def test_a_request_has_a_path(self, case: AdapterCase) -> None:
        request = case.adapter.request(case.model)
        assert request.path.startswith("/")
        assert case.adapter.streams == (request.stream is not None)

    def test_without_a_path_to_a_model_it_says_what_it_needs(self, case: AdapterCase) -> None:
        with pytest.raises(AdapterError) as caught:
            case.adapter.check(Model(case.model.name), {})
        assert "path" in str(caught.value)

    def test_a_server_that_can_be_told_has_a_way_to_tell_it(self, case: AdapterCase) -> None:
        if any(knob.live for knob in case.adapter.knobs):
            assert type(case.adapter).configure is not ServerAdapter.configure

    def test_one_that_answers_grpc_listens_where_it_says(self, case: AdapterCase) -> None:
        if case.adapter.grpc_port is not None:
            made = case.adapter.launch(replace(case.model, grpc=True), {}, HERE)
            assert str(HERE.more[case.adapter.grpc_port]) in _text(made)


def _text(made: ServerCommand) -> str:
    return "\n".join((*made.command, *made.env.values(), *made.files.values()))
