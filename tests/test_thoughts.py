"""Thoughts are told from answers whatever a response does with its markers, and nothing of it is lost."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_zoo import TEXTS, byte_level

from at2_core.errors import At2Error
from at2_core.prompts import encode_text
from at2_core.segmentation import split_sentences
from at2_core.thoughts import is_opened, markers_of, parts_of, response_sentences, split_thoughts

relaxed = settings(deadline=None, max_examples=60)
# Texts in which markers of all sorts come and go, and markers that are parts of each other or the same.
MARKERS = st.sampled_from(
    [
        ("<think>", "</think>"),
        ("[", "]"),
        ("a", "ab"),
        ("ab", "a"),
        ("|", "|"),
        ("<|x|>", "</x>"),
        (" .", "\n!"),
    ]
)
PIECES = st.lists(
    st.one_of(
        TEXTS,
        st.sampled_from(
            ["<think>", "</think>", "[", "]", "a", "ab", "|", "<|x|>", " .", "\n!", "One. Two. "]
        ),
    ),
    max_size=8,
).map("".join)


def said(text: str, **options) -> list[tuple[str, str]]:
    """Kind and text of every segment, without its markers."""
    return [(s.kind, text[s.text_start : s.text_end]) for s in split_thoughts(text, **options)]


# ------------------------------------------------------------------------------------------- properties


@relaxed
@given(text=PIECES, markers=MARKERS, opened=st.booleans())
def test_segments_tile_any_text(text, markers, opened):
    segments = split_thoughts(text, markers, opened=opened)
    assert "".join(text[s.start : s.end] for s in segments) == text
    assert [s.start for s in segments] == [0, *(s.end for s in segments[:-1])][: len(segments)]
    for segment in segments:
        assert segment.start <= segment.text_start <= segment.text_end <= segment.end > segment.start
        before, after = text[segment.start : segment.text_start], text[segment.text_end : segment.end]
        assert segment.kind == "thought" or not (before or after)
        assert before.strip() in ("", markers[0].strip())
        assert after.strip() in ("", markers[1].strip())
    assert all(a.kind != b.kind or a.kind == "thought" for a, b in itertools.pairwise(segments))


@relaxed
@given(text=PIECES, markers=MARKERS, opened=st.booleans())
def test_only_a_marker_makes_a_thought(text, markers, opened):
    if not opened and not any(marker in text for marker in markers):
        assert said(text, markers=markers) == ([("answer", text)] if text else [])
    for segment in split_thoughts(text, markers, opened=opened):
        if segment.kind == "answer":  # what opens a thought never stands in an answer
            assert markers[0] not in text[segment.start : segment.end] or markers[1].startswith(markers[0])


@relaxed
@given(text=PIECES, markers=MARKERS, opened=st.booleans())
def test_sentences_of_a_response_tile_it_and_keep_to_their_segment(text, markers, opened):
    text = text.encode("utf-8", "replace").decode()
    segments = split_thoughts(text, markers, opened=opened)
    spans = response_sentences(text, segments)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)
    borders = {s.start for s in segments} | {s.end for s in segments}
    assert not any(a < border < b for a, b in spans for border in borders)


@relaxed
@given(text=PIECES, markers=MARKERS, opened=st.booleans())
def test_parts_hold_every_token_outside_the_markers_once(text, markers, opened):
    text = text.encode("utf-8", "replace").decode()
    _, offsets = encode_text(byte_level(), text)
    parts = parts_of(text, offsets, markers, opened=opened)
    assert all(a.token_end <= b.token_start for a, b in itertools.pairwise(parts))
    held = {i for part in parts for i in range(part.token_start, part.token_end)}
    for i, (start, end) in enumerate(offsets):
        visible = [c for c in range(start, end) if not text[c].isspace()]
        inside = [
            s
            for s in split_thoughts(text, markers, opened=opened)
            if visible and s.text_start <= visible[0] < s.text_end
        ]
        if visible:
            assert (i in held) == bool(inside)


# --------------------------------------------------------------------------------------------- examples

T, A = "thought", "answer"


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("<think>Hm.</think>Yes.", [(T, "Hm."), (A, "Yes.")]),
        ("Well. <think>Hm.</think> Yes.", [(A, "Well. "), (T, "Hm."), (A, "Yes.")]),
        ("<think>a</think>b<think>c</think>d", [(T, "a"), (A, "b"), (T, "c"), (A, "d")]),
        ("<think>Cut off in the mid", [(T, "Cut off in the mid")]),
        ("Begun by the template.</think>Yes.", [(T, "Begun by the template."), (A, "Yes.")]),
        ("</think>Yes.", [(T, ""), (A, "Yes.")]),
        ("<think>a<think>b</think>c</think>d", [(T, "a<think>b</think>c"), (A, "d")]),
        ("<think>a<think>b</think>d", [(T, "a<think>b"), (A, "d")]),
        ("<think>a<think>b", [(T, "a<think>b")]),
        ("<think>a</think>It closes with </think> always.", [(T, "a"), (A, "It closes with </think> always.")]),
        ("<think>", [(T, "")]),
        ("<think></think>", [(T, "")]),
        ("No thought.", [(A, "No thought.")]),
        ("", []),
    ],
)  # fmt: skip
def test_whatever_a_response_does_with_its_markers(text, segments):
    assert said(text) == segments


def test_a_thought_that_the_prompt_opened_and_nothing_closes_is_the_whole_response():
    assert said("Let me see", opened=True) == [(T, "Let me see")]
    assert said("Let me see</think>Yes.", opened=True) == [(T, "Let me see"), (A, "Yes.")]
    assert is_opened("<|im_start|>assistant\n<think>\n")
    assert not is_opened("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_markers_that_are_alike_take_turns():
    assert said("||a||b||c", markers=("||", "||")) == [(T, "a"), (A, "b"), (T, "c")]


@pytest.mark.parametrize("markers", [("", "</think>"), ("<think>", " \n"), ("<" * 101, ">")])
def test_markers_that_mark_nothing_are_refused(markers):
    with pytest.raises(At2Error, match="marker"):
        split_thoughts("text", markers)


def test_a_marker_is_a_sentence_of_its_own():
    text = "<think>\nHm. Well.\n</think>\n\nYes. No."
    spans = response_sentences(text, split_thoughts(text))
    assert [text[a:b] for a, b in spans] == ["<think>\n", "Hm. ", "Well.", "\n</think>\n\n", "Yes. ", "No."]
    assert response_sentences("Yes. No.", split_thoughts("Yes. No.")) == split_sentences("Yes. No.")


def test_an_empty_thought_is_all_marker():
    text = "<think>\n\n</think>\n\nYes."
    assert [text[a:b] for a, b in response_sentences(text, split_thoughts(text))] == [
        "<think>\n\n</think>\n\n",
        "Yes.",
    ]


def tokenizer(*added: str, template: object = None):
    tokens = {i: SimpleNamespace(content=content) for i, content in enumerate(added)}
    return SimpleNamespace(added_tokens_decoder=tokens, chat_template=template)


@pytest.mark.parametrize(
    ("known", "pair"),
    [
        (tokenizer("<s>", "<think>", "</think>"), ("<think>", "</think>")),
        (tokenizer("[THINK]", "[/THINK]"), ("[THINK]", "[/THINK]")),
        (tokenizer("<|START_THINKING|>", "<|END_THINKING|>"), ("<|START_THINKING|>", "<|END_THINKING|>")),
        (tokenizer("<seed:think>", "</seed:think>"), ("<seed:think>", "</seed:think>")),
        (tokenizer("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|begin_of_thought|>", "<|end_of_thought|>")),
        (tokenizer("<s>", template="{{ '<reasoning>' }} ... {{ '</reasoning>' }}"), ("<reasoning>", "</reasoning>")),
        (tokenizer("<s>", template={"default": "<think></think>"}), ("<think>", "</think>")),
        (tokenizer("<think>"), None),
        (tokenizer("<s>", "<tool_call>", "</tool_call>"), None),
    ],
)  # fmt: skip
def test_a_tokenizer_says_how_its_model_marks_thoughts(known, pair):
    assert markers_of(known) == pair


def test_a_plain_tokenizer_knows_no_markers(tiny_tokenizer):
    assert markers_of(tiny_tokenizer) is None
