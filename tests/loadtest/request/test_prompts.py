"""Prompts of so many tokens, that share what they are asked to share and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.llm import Lengths, LlmPlan
from loadtest.request.prompts import Prompts
from loadtest.request.request_check import PlanError
from loadtest.request.sizes import read_sizes
from loadtest.request.vocabulary import vocabulary

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Byte-level BPE with a token at the beginning, trained on Python's own topics."""
    from pydoc_data.topics import topics

    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=2000, special_tokens=["<s>"], show_progress=False)
    model.train_from_iterator(topics.values(), trainer)
    model.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    model.save(str(path))
    return str(path)


def texts(plan: LlmPlan, count: int, seed: int = 1, fresh: str = "") -> list[str]:
    prompts = Prompts(plan, seed, fresh)
    return [json.loads(prompts.take().body)["prompt"] for _ in range(count)]


@pytest.mark.parametrize("length", [1, 7, 512])
def test_a_prompt_has_as_many_tokens_as_were_asked_for(tokenizer: str, length: int) -> None:
    model = tokenizers.Tokenizer.from_file(tokenizer)
    plan = LlmPlan(input_tokens=Lengths(low=length, high=length), tokenizer=tokenizer, shared_prefix=0.5)
    assert vocabulary(tokenizer).exact
    counts = [len(model.encode(text).ids) for text in texts(plan, 50)]
    assert all(abs(count - length) <= 1 for count in counts), counts


def test_prompts_share_their_prefix_and_no_more(tokenizer: str) -> None:
    plan = LlmPlan(input_tokens=Lengths(low=200, high=200), tokenizer=tokenizer, shared_prefix=0.4)
    words = [text.split() for text in texts(plan, 20)]
    assert len({tuple(one[:80]) for one in words}) == 1
    assert len({tuple(one[80:90]) for one in words}) == 20
    other = texts(plan, 20, fresh="another process")
    assert not {tuple(one[80:]) for one in words} & {tuple(text.split()[80:]) for text in other}
    apart = texts(plan.model_copy(update={"shared_prefix": 0.0}), 20)
    assert len({tuple(text.split()[:3]) for text in apart}) == 20


def test_without_a_tokenizer_lengths_are_in_words_and_it_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    for path in (None, str(broken), str(tmp_path / "none.json")):
        assert "counted in words" in vocabulary(path).note
        (text,) = texts(LlmPlan(input_tokens=Lengths(low=30, high=30), tokenizer=path), 1)
        assert len(text.split()) == 30


def test_a_conversation_goes_on_when_its_user_has_thought() -> None:
    now = [0.0]
    plan = LlmPlan(
        input_tokens=Lengths(low=10, high=10), output_tokens=Lengths(low=5, high=5), turns=3, think_s=2.0,
        ignore_eos=True, body={"model": "m"}, chat=True,
    )  # fmt: skip
    prompts = Prompts(plan, 0, "", clock=lambda: now[0])
    first = prompts.take()
    prompts.answered(first)
    assert prompts.take().words[:10] != first.words, "its user still thinks: another one begins"
    now[0] = 2.5
    second = prompts.take()
    assert (len(second.words), second.words[:10], second.turn) == (25, first.words, 2)
    prompts.answered(second)
    now[0] = 5.0
    third = prompts.take()
    assert (len(third.words), third.turn) == (40, 3)
    prompts.answered(third)
    now[0] = 9.0
    assert prompts.take().turn == 1, "three turns were asked for"
    body = json.loads(third.body)
    assert (body["model"], body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == ("m", 5, 5, True)
    assert body["messages"][0]["content"].split() == list(third.words)


def test_lognormal_lengths_have_the_median_that_was_asked_for() -> None:
    import random

    lengths = Lengths(low=1, high=100_000, median=400, sigma=0.7)
    drawn = sorted(lengths.draw(random.Random(number)) for number in range(2001))
    assert drawn[1000] == pytest.approx(400, rel=0.1)
    assert drawn[1680] / drawn[1000] == pytest.approx(2.01, rel=0.15), "one standard deviation"


SHAREGPT = [{"conversations": [
    {"from": "human", "value": "one two three"}, {"from": "gpt", "value": "four five"},
    {"from": "human", "value": "six"}, {"from": "gpt", "value": "seven"},
]}]  # fmt: skip


@pytest.mark.parametrize(("text", "sizes"), [
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.95,396,109\n",
     [(374, 44), (396, 109)]),
    ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
     "45,ChatGPT,1087,0,1087,Conversation log\n", [(472, 18)]),
    ('{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46]}\n', [(6955, 52)]),
    (json.dumps(SHAREGPT), [(3, 2), (1, 1)]),
    ("output_tokens,input_tokens\n7,9\n", [(9, 7)]),
])  # fmt: skip
def test_recorded_lengths_are_read_in_the_forms_they_come_in(
    tmp_path: Path, text: str, sizes: list[tuple[int, int]]
) -> None:
    path = tmp_path / "sizes"
    path.write_text(text)
    assert read_sizes(path) == sizes
    drawn = {len(text.split()) for text in texts(LlmPlan(sizes=str(path)), 30)}
    assert drawn == {one for one, _ in sizes}


def test_texts_are_counted_in_the_models_tokens(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "sizes"
    path.write_text(json.dumps(SHAREGPT))
    counted = tokenizers.Tokenizer.from_file(tokenizer).encode_batch(
        [turn["value"] for turn in SHAREGPT[0]["conversations"][:2]]
    )
    assert read_sizes(path, vocabulary(tokenizer).lengths)[0] == tuple(len(one.ids) for one in counted)


@pytest.mark.parametrize(("text", "said"), [
    ("a,b\n1,2\n", ":1: no columns input_tokens"),
    ("input_tokens,output_tokens\n1,x\n", ":2: '1' and 'x' are no numbers"),
    ("input_tokens,output_tokens\n1\n", ":2: '1' and '' are no numbers"),
    ("input_tokens,output_tokens\n-1,2\n", ":2: -1 and 2"),
    ("input_tokens,output_tokens\ninf,2\n", ":2: 'inf' and '2'"),
    ("input_tokens,output_tokens\n" + '"' + "x" * 200_000, "is a quote left open"),
    ('{"input_length": 1}\n', ":1: needs JSON"),
    ("[1]", "entry 1 has no list"),
    ("[", "is not JSON"),
    ("[]", "has no request"),
])  # fmt: skip
def test_what_is_no_file_of_lengths_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sizes"
    path.write_text(text)
    with pytest.raises(PlanError, match=said.replace("[", r"\[")):
        read_sizes(path)
