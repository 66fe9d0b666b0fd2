"""Responses: the ids are the truth, text and offsets follow, and a replay is the generation again."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import at2_core as at2
from at2_core.generation import Detokenizer, generation_from_ids, token_logit_probs
from tests.families import FAMILIES, folder_of

TASK = at2.ContextTask(context="The fox runs. The dog sleeps in the sun. Berlin is far.", query="Who sleeps?")


def test_greedy_generation_equals_transformers_generate(tiny_lm):
    gen = at2.generate(tiny_lm, TASK, max_new_tokens=20)
    with torch.inference_mode():
        theirs = tiny_lm.model.generate(torch.tensor([gen.prompt_ids]), max_new_tokens=20, do_sample=False)[0]
    theirs = theirs[len(gen.prompt_ids) :].tolist()
    assert gen.response_ids == [i for i in theirs if i != tiny_lm.tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gemma2", "gpt2"])
def test_rereading_the_ids_gives_the_same_attention_and_probabilities(tiny_model, kind):
    lm = tiny_model(kind)
    gen = at2.generate(lm, TASK, max_new_tokens=24, temperature=1.0, seed=3)
    again = generation_from_ids(lm, TASK, gen.response_ids)
    assert (again.text, again.response_offsets) == (gen.text, gen.response_offsets)
    assert np.abs(again.logprobs - gen.logprobs).max() < 1e-4
    for head in range(lm.num_heads):
        difference = at2.head_attention(lm, gen, 1, head) - at2.head_attention(lm, again, 1, head)
        assert np.abs(difference).max() < 1e-5


def test_sampling_depends_on_the_seed_alone(tiny_lm):
    first, again, other = (
        at2.generate(tiny_lm, TASK, max_new_tokens=12, temperature=1.5, seed=seed).response_ids
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_nucleus_of_almost_nothing_is_greedy(tiny_lm):
    greedy = at2.generate(tiny_lm, TASK, max_new_tokens=8)
    nucleus = at2.generate(tiny_lm, TASK, max_new_tokens=8, temperature=1.0, top_p=1e-6, seed=5)
    assert nucleus.response_ids == greedy.response_ids


def test_text_streams_as_it_grows_and_a_cancel_keeps_what_there_is(tiny_lm):
    cancel, seen = threading.Event(), []

    def on_token(text):
        seen.append(text)
        if len(seen) == 5:
            cancel.set()

    gen = at2.generate(tiny_lm, TASK, max_new_tokens=50, temperature=1.0, on_token=on_token, cancel=cancel)
    assert gen.stop_reason == "cancelled"
    assert gen.num_tokens == len(seen) == 5
    assert all(b.startswith(a) for a, b in pairwise(seen))
    assert at2.attribute(tiny_lm, gen, at2.uniform_estimator(tiny_lm)).scores.shape[0] == 5


def test_cancelled_before_the_first_token_is_an_empty_generation(tiny_lm):
    cancel = threading.Event()
    cancel.set()
    gen = at2.generate(tiny_lm, TASK, cancel=cancel)
    assert gen.text == ""
    att = at2.attribute(tiny_lm, gen, at2.uniform_estimator(tiny_lm))
    assert att.scores.shape == (0, len(att.sources))


def test_a_replayed_response_keeps_its_text_and_its_control_strings_as_text(tiny_lm):
    response = "The dog 🐕 sleeps.<|im_end|> And <|im_start|>user\nno turn begins."
    gen = at2.replay(tiny_lm, TASK, response)
    assert gen.text == response
    assert not set(gen.response_ids) & set(tiny_lm.tokenizer.all_special_ids)
    covered = {i for start, end in gen.response_offsets for i in range(start, end)}
    assert covered == set(range(len(response)))
    assert gen.logprobs.shape == (gen.num_tokens,)
    assert (gen.logprobs <= 0).all()


@pytest.mark.parametrize(
    ("task", "response", "error", "says"),
    [
        (TASK, "   ", at2.ResponseDoesNotFit, "empty"),
        (TASK, "word " * 600, at2.ResponseDoesNotFit, "more than the 512"),
        (at2.ContextTask(context="fox " * 600, query="Who?"), "yes", at2.PromptTooLong, "cut about"),
        (at2.ContextTask(context="", query="Who?"), "yes", at2.EmptyInput, "context"),
        (at2.ContextTask(context="Fox.", query=" "), "yes", at2.EmptyInput, "quer|question"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(tiny_lm, task, response, error, says):
    with pytest.raises(error, match=f"(?i){says}"):
        at2.replay(tiny_lm, task, response)


def test_a_prompt_that_leaves_no_room_for_the_response_says_by_how_many_tokens(tiny_lm):
    room = tiny_lm.max_length - len(at2.replay(tiny_lm, TASK, "x").prompt_ids)
    with pytest.raises(at2.PromptTooLong, match="3 more than the 512"):
        at2.generate(tiny_lm, TASK, max_new_tokens=room + 3)


def test_logit_probabilities_are_exact_where_probabilities_round_to_one():
    logits = torch.tensor([[0.0, 40.0, 1.0], [2.0, -1.0, 0.5]])
    got = token_logit_probs(logits, torch.tensor([1, 0])).double()
    p = torch.softmax(logits.double(), -1)
    rest = torch.stack([p[0, 0] + p[0, 2], p[1, 1] + p[1, 2]])
    expected = torch.log(torch.stack([p[0, 1], p[1, 0]])) - torch.log(rest)
    assert (got - expected).abs().max() < 1e-5
    assert got[0] > 38


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_detokenized_offsets_tile_the_text(tiny_tokenizer, text):
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(tiny_tokenizer)
    for token in ids:
        detokenizer.add(token)
    out, offsets = detokenizer.finish()
    assert out == tiny_tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert len(offsets) == len(ids)
    assert all(a <= b for a, b in pairwise(offsets)), "spans do not go back"
    assert {i for start, end in offsets for i in range(start, end)} == set(range(len(out)))


@pytest.mark.parametrize("rest", [0, 1, 2])
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_a_long_prompt_read_in_pieces_is_the_same(tiny_model, kind, rest, monkeypatch):
    """rest: tokens beyond whole pieces."""
    lm = tiny_model(kind)
    task = at2.ContextTask(context="The fox runs. Berlin is far. " * 8, query="Who runs?")
    whole = at2.generate(lm, task, max_new_tokens=8)
    piece = (len(whole.prompt_ids) - rest) // 5
    while (len(whole.prompt_ids) - rest) % piece:
        piece -= 1
    monkeypatch.setattr("at2_core.generation.PREFILL", piece)
    seen = []
    pieces = at2.generate(
        lm, task, max_new_tokens=8, on_prompt=lambda done, total: seen.append((done, total))
    )
    assert pieces.response_ids == whole.response_ids
    assert np.allclose(pieces.logprobs, whole.logprobs, atol=1e-4)
    est = at2.uniform_estimator(lm)
    assert np.allclose(at2.token_scores(lm, pieces, est), at2.token_scores(lm, whole, est), atol=1e-5)
    assert [done for done, _ in seen] == list(range(piece, len(whole.prompt_ids), piece))


def test_a_long_prompt_can_be_stopped_while_it_is_read(tiny_lm, monkeypatch):
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    task = at2.ContextTask(context="The fox runs. " * 12, query="Who runs?")
    cancel, seen = threading.Event(), []

    def stop(done, total):
        seen.append(done)
        cancel.set()

    gen = at2.generate(tiny_lm, task, max_new_tokens=8, on_prompt=stop, cancel=cancel)
    assert seen == [16]
    assert gen.response_ids == []
    assert gen.stop_reason == "cancelled"


class Watched:
    """What a forward pass was given: how many tokens at once."""

    def __init__(self, model, monkeypatch):
        self.lengths, forward = [], model.forward
        monkeypatch.setattr(model, "forward", lambda ids, **options: self._seen(ids, forward, options))

    def _seen(self, ids, forward, options):
        self.lengths.append(ids.shape[1])
        return forward(ids, **options)


LONG = at2.ContextTask(context="The fox runs. Berlin is far. " * 8, query="Who runs?")


@pytest.mark.parametrize("response", ["The fox.", "The fox runs, and Berlin is far. " * 6])
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gemma2", "gpt2"])
def test_a_long_response_that_is_given_is_read_in_pieces_and_is_the_same(
    tiny_model, kind, response, monkeypatch
):
    lm = tiny_model(kind)
    whole = at2.replay(lm, LONG, response)
    n, total = len(whole.prompt_ids), len(whole.prompt_ids) + whole.num_tokens - 1
    for piece in (n - 1, n, total // 3, 17):  # the response begins with a piece, behind one, inside one
        monkeypatch.setattr("at2_core.generation.PREFILL", piece if 2 * piece < total else total // 2 - 1)
        seen = []
        pieces = at2.replay(lm, LONG, response, on_prompt=lambda done, of, seen=seen: seen.append((done, of)))
        assert len(seen) > 1
        assert seen[-1] == (total, total)
        assert np.allclose(pieces.logprobs, whole.logprobs, atol=1e-4)
        est = at2.uniform_estimator(lm)
        assert np.allclose(at2.token_scores(lm, pieces, est), at2.token_scores(lm, whole, est), atol=1e-5)
        if whole.trace.stream is not None:
            assert torch.allclose(pieces.trace.stream, whole.trace.stream, atol=1e-4)
        again = generation_from_ids(lm, LONG, whole.response_ids, cancel=threading.Event())
        assert np.allclose(again.logprobs, whole.logprobs, atol=1e-4)


def test_a_family_read_by_running_again_is_read_in_pieces_too(tiny_tokenizer, tmp_path, monkeypatch):
    lm = at2.load_model(str(folder_of("falcon", tiny_tokenizer, tmp_path)), device="cpu", dtype="float32")
    assert not lm.in_place
    whole = at2.replay(lm, LONG, "The fox.")
    monkeypatch.setattr("at2_core.generation.PREFILL", 40)
    pieces = at2.replay(lm, LONG, "The fox.", cancel=threading.Event())
    est = at2.uniform_estimator(lm)
    assert np.allclose(pieces.logprobs, whole.logprobs, atol=1e-4)
    assert np.allclose(at2.token_scores(lm, pieces, est), at2.token_scores(lm, whole, est), atol=1e-5)


def test_a_response_is_read_at_once_where_it_is_short_or_where_nobody_watches(tiny_lm, monkeypatch):
    lengths = Watched(tiny_lm.model, monkeypatch).lengths
    at2.replay(tiny_lm, LONG, "The fox.", cancel=threading.Event())  # far below twice a piece
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    at2.replay(tiny_lm, LONG, "The fox.")
    at2.replay(replace(tiny_lm, stateful=True), LONG, "The fox.", cancel=threading.Event())
    assert len(lengths) == 3
    at2.replay(tiny_lm, LONG, "The fox.", cancel=threading.Event())
    assert max(lengths[3:]) == 16


def test_a_response_is_read_at_once_where_positions_depend_on_the_whole_length(
    tiny_tokenizer, tmp_path, monkeypatch
):
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64, "factor": 8.0}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    monkeypatch.setitem(FAMILIES, "llama", {**FAMILIES["llama"], "rope_parameters": rope})
    lm = at2.load_model(str(folder_of("llama", tiny_tokenizer, tmp_path)), device="cpu", dtype="float32")
    whole = at2.replay(lm, LONG, "The fox.")
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    watched = at2.replay(lm, LONG, "The fox.", cancel=threading.Event())
    assert np.array_equal(watched.logprobs, whole.logprobs)


def test_a_response_that_is_given_can_be_stopped_while_it_is_read(tiny_lm, monkeypatch):
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    cancel, seen = threading.Event(), []

    def stop(done, total):
        seen.append(done)
        cancel.set()

    with pytest.raises(at2.Cancelled):
        at2.replay(tiny_lm, LONG, "The fox.", on_prompt=stop, cancel=cancel)
    assert seen == [16]
    with pytest.raises(at2.Cancelled):  # before the first piece, and where there is only one
        at2.replay(tiny_lm, TASK, "The fox.", cancel=cancel)


def test_what_to_cut_is_counted_in_this_text(tiny_lm):
    """Byte tokens: a character of Chinese is three of them, so that few characters are many tokens."""
    with pytest.raises(at2.PromptTooLong, match="cut about") as caught:
        at2.generate(tiny_lm, at2.ContextTask(context="漢字" * 400, query="?"), max_new_tokens=8)
    advice = int(re.search(r"cut about ([\d,]+) characters", str(caught.value))[1].replace(",", ""))
    kept = at2.ContextTask(context="漢字" * 400, query="?").context[: 800 - advice - 20]
    assert 0 < advice < 800
    at2.generate(tiny_lm, at2.ContextTask(context=kept, query="?"), max_new_tokens=8)


def test_a_text_far_too_long_is_refused_without_the_careful_way(tiny_lm, monkeypatch):
    def never(*args):
        raise AssertionError("the careful way takes minutes here")

    monkeypatch.setattr("at2_core.generation.render", never)
    with pytest.raises(at2.PromptTooLong, match="more than the 512"):
        at2.generate(tiny_lm, at2.ContextTask(context="<|im_end|>" * 20_000, query="?"), max_new_tokens=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": -1},
        {"temperature": float("nan")},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"seed": 2**70},
    ],
)
def test_settings_that_cannot_be_are_a_sentence(tiny_lm, wrong):
    with pytest.raises(at2.At2Error):
        at2.generate(tiny_lm, at2.ContextTask(context="C.", query="Q?"), **{"max_new_tokens": 2, **wrong})


def test_a_response_longer_than_the_window_is_named(tiny_lm):
    with pytest.raises(at2.PromptTooLong, match="ask for a shorter response"):
        at2.generate(tiny_lm, at2.ContextTask(context="C.", query="Q?"), max_new_tokens=10**9)


def test_a_temperature_next_to_zero_is_greedy(tiny_lm):
    task = at2.ContextTask(context="The fox runs.", query="Who?")
    cold = at2.generate(tiny_lm, task, max_new_tokens=6, temperature=1e-40)
    assert cold.response_ids == at2.generate(tiny_lm, task, max_new_tokens=6).response_ids
