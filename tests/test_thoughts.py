"""Thoughts are told from answers whatever a response does with its markers, and nothing of it is lost."""

from __future__ import annotations

import itertools
import re
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


def holds(text: str, marker: str) -> bool:
    return re.search(re.escape(marker), text, re.IGNORECASE) is not None


def alike(text: str, marker: str) -> bool:
    return re.fullmatch(re.escape(marker.strip()), text.strip(), re.IGNORECASE) is not None


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
        assert not before.strip() or alike(before, markers[0])
        assert not after.strip() or alike(after, markers[1])
    assert all(a.kind != b.kind or a.kind == "thought" for a, b in itertools.pairwise(segments))


@relaxed
@given(text=PIECES, markers=MARKERS, opened=st.booleans())
def test_only_a_marker_makes_a_thought(text, markers, opened):
    if not opened and not any(holds(text, marker) for marker in markers):
        assert said(text, markers=markers) == ([("answer", text)] if text else [])
    if any(marker in other for marker, other in itertools.permutations(markers)):
        return  # where one marker holds the other, what of a text is which takes more than to look for it
    for segment in split_thoughts(text, markers, opened=opened):
        if (
            segment.kind == "answer"
        ):  # what opens a thought stands in an answer only where nothing closes one any more
            opens = re.search(re.escape(markers[0]), text[segment.start : segment.end], re.IGNORECASE)
            assert opens is None or not holds(text[segment.start + opens.end() :], markers[1])


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
        (" \n<think>Hm.</think>Yes.", [(T, "Hm."), (A, "Yes.")]),
        ("<think>a</think>\n\n<think>Cut off", [(T, "a"), (T, "Cut off")]),
        ("Use the <think> tag in HTML. It is fun.", [(A, "Use the <think> tag in HTML. It is fun.")]),
        ("<think>a</think>Use the <think> tag.", [(T, "a"), (A, "Use the <think> tag.")]),
        ("<THINK>a</Think>b", [(T, "a"), (A, "b")]),
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
    assert is_opened("<|im_start|>assistant\n<Think>\n")
    assert not is_opened("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_markers_that_are_alike_take_turns():
    alike = ("||", "||")
    assert said("||a||b||c||d", markers=alike) == [(T, "a"), (A, "b"), (T, "c"), (A, "d")]
    assert said("||a||b||c", markers=alike) == [(T, "a"), (A, "b||c")]  # one that nothing closes opens none
    assert said("XaxbXcxd", markers=("x", "X")) == [(T, "a"), (A, "b"), (T, "c"), (A, "d")]


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


CHANNELS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")


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
        (tokenizer(template="<|START_THINKING|> <|END_THINKING|>"), ("<|START_THINKING|>", "<|END_THINKING|>")),
        (tokenizer("◁think▷", "◁/think▷"), ("◁think▷", "◁/think▷")),
        (tokenizer(template="◁think▷{{ thought }}◁/think▷"), ("◁think▷", "◁/think▷")),
        (tokenizer("<|inner_prefix|>", "<|inner_suffix|>"), ("<|inner_prefix|>", "<|inner_suffix|>")),
        (tokenizer("<|start|>", "<|end|>", "<|message|>", "<|channel|>"), CHANNELS),
        (tokenizer("<|start|>", "<|end|>", "<|message|>"), None),
        (tokenizer("<think>"), None),
        (tokenizer("<s>", "<tool_call>", "</tool_call>"), None),
    ],
)  # fmt: skip
def test_a_tokenizer_says_how_its_model_marks_thoughts(known, pair):
    assert markers_of(known) == pair


def test_all_before_the_last_channel_is_thought():
    begun = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    plan = "<|channel|>commentary<|message|>First I look.<|end|><|start|>assistant"
    final = "<|channel|>final<|message|>Yes."
    assert said(begun + final, markers=CHANNELS) == [(T, "Hm."), (A, "Yes.")]
    again = begun + begun + plan + final
    (thought, text), answer = said(again, markers=CHANNELS)
    assert (thought, answer) == (T, (A, "Yes."))
    assert text.count("Hm.") == 2
    assert [kind for kind, _ in said(begun, markers=CHANNELS)] == [T]


def test_a_thought_that_no_marker_closes_is_cut_off():
    assert [s.cut_off for s in split_thoughts("<think>a</think>b<think>c</think>")] == [False] * 3
    assert [s.cut_off for s in split_thoughts("<think>a</think><think>b")] == [False, True]
    assert [s.cut_off for s in split_thoughts("<think>")] == [True]


def test_a_plain_tokenizer_knows_no_markers(tiny_tokenizer):
    assert markers_of(tiny_tokenizer) is None
