"""Sources tile what they cover, in characters and in tokens, and are cut where a reader would cut."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_zoo import FILLED, TEXTS, ZOO, byte_fallback, byte_level

from at2_core.errors import At2Error
from at2_core.prompts import ContextTask, Document, Turn, encode_text, render
from at2_core.segmentation import split_paragraphs, split_words
from at2_core.sources import GRANULARITIES, SCOPES, cut, cut_all, in_scope, page_of, split_sentences
from at2_core.thoughts import parts_of

relaxed = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPLITS = [split_words, split_sentences, split_paragraphs]
DOCUMENTS = st.lists(st.builds(Document, TEXTS, FILLED), min_size=1, max_size=3)
TASKS = st.one_of(
    st.builds(ContextTask, context=FILLED, query=FILLED),
    st.builds(ContextTask, documents=DOCUMENTS, query=FILLED),
)
TURNS = st.tuples(st.builds(Turn, st.just("user"), TEXTS), st.builds(Turn, st.just("assistant"), TEXTS))
TALKS = st.builds(
    ContextTask,
    context=FILLED,
    query=FILLED,
    system=st.one_of(st.none(), FILLED),
    history=st.one_of(st.just(()), TURNS),
)
RESPONSES = st.lists(st.one_of(TEXTS, st.sampled_from(["<think>", "</think>"])), max_size=5).map("".join)
EVERYTHING = ("system", "history", "title", "context", "query")


@pytest.fixture(scope="module", params=ZOO)
def tokenizer(request):
    return ZOO[request.param]()


@dataclass(frozen=True)
class Answer:
    """A prompt and a response, without a model."""

    task: ContextTask
    rendered: object
    text: str
    response_offsets: tuple


def answered(tokenizer, task: ContextTask, response: str) -> Answer:
    response = response.encode("utf-8", "replace").decode()
    return Answer(task, render(tokenizer, task), response, tuple(encode_text(tokenizer, response)[1]))


def pieces(spans, text: str) -> list[str]:
    return [text[start:end] for start, end in spans]


def sources_of(context: str, granularity: str, tokenizer=None) -> list[str]:
    return [s.text for s in cut(render(tokenizer or byte_level(), ContextTask(context, "q")), granularity)]


# ------------------------------------------------------------------------------------------- properties


@settings(relaxed, max_examples=40)
@given(task=TASKS, granularity=st.sampled_from(GRANULARITIES))
def test_sources_tile_every_part_in_characters_and_in_tokens(tokenizer, task, granularity):
    prompt = render(tokenizer, task)
    for part in prompt.parts:
        own = [s for s in cut(prompt, granularity, kinds=EVERYTHING) if part.start <= s.start < part.end]
        if part.token_start == part.token_end:
            assert not own
            continue
        assert [s.start for s in own] == [part.start, *(s.end for s in own[:-1])]
        assert [s.token_start for s in own] == [part.token_start, *(s.token_end for s in own[:-1])]
        assert (own[-1].end, own[-1].token_end) == (part.end, part.token_end)
        assert all(s.start < s.end and s.token_start < s.token_end for s in own)
        assert all(s.text == prompt.text[s.start : s.end] for s in own)
        assert all(s.document == (part.document or 0) for s in own)


@relaxed
@given(task=TASKS, granularity=st.sampled_from(GRANULARITIES[1:]))
def test_a_token_goes_where_its_first_visible_character_is(tokenizer, task, granularity):
    prompt = render(tokenizer, task)
    for source in cut(prompt, granularity):
        for start, end in prompt.offsets[source.token_start : source.token_end]:
            visible = [i for i in range(start, end) if not prompt.text[i].isspace()]
            assert not visible or source.start <= visible[0] < source.end


@relaxed
@given(task=TASKS)
def test_tokens_that_share_a_character_are_one_source(tokenizer, task):
    prompt = render(tokenizer, task)
    for left, right in itertools.pairwise(cut(prompt, "token", kinds=EVERYTHING)):
        shared = slice(prompt.offsets[right.token_start][0], prompt.offsets[left.token_end - 1][1])
        assert not prompt.text[shared].strip()


@settings(relaxed, max_examples=300)
@given(text=TEXTS, split=st.sampled_from(SPLITS))
def test_spans_tile_the_text_and_each_shows_something(text, split):
    text = text.encode("utf-8", "replace").decode()
    spans = split(text)
    assert "".join(pieces(spans, text)) == text
    assert [s for s, _ in spans] == [0, *(e for _, e in spans[:-1])][: len(spans)]
    assert not text.strip() or all(piece.strip() for piece in pieces(spans, text))
    assert (spans == []) == (text == "")


@settings(relaxed, max_examples=300)
@given(text=TEXTS, split=st.sampled_from(SPLITS))
def test_no_cut_inside_what_a_reader_sees_as_one_character(text, split):
    text = text.encode("utf-8", "replace").decode()
    whole = {m.start() for m in regex.finditer(r"\X", text)} | {len(text)}
    assert {end for _, end in split(text)} <= whole


@relaxed
@given(task=TALKS, response=RESPONSES, granularity=st.sampled_from(GRANULARITIES))
def test_sources_of_everything_tile_the_prompts_parts_and_what_the_response_says(
    tokenizer, task, response, granularity
):
    gen = answered(tokenizer, task, response)
    prompt, sources = gen.rendered, cut_all(gen, granularity)
    text, n = prompt.text + gen.text, prompt.n
    assert all(s.text == text[s.start : s.end] for s in sources)
    of_prompt = [s for s in sources if s.token_start < n]
    kinds = {part.kind for part in prompt.parts}
    assert [(s.start, s.token_start) for s in of_prompt] == [
        (s.start, s.token_start) for s in cut(prompt, granularity, kinds=tuple(kinds))
    ]
    own = [s for s in sources if s.token_start >= n]
    assert sources == of_prompt + own
    for part in parts_of(gen.text, gen.response_offsets):
        inside = [s for s in own if part.token_start <= s.token_start - n < part.token_end]
        assert {s.role for s in inside} == {part.kind}
        borders = [part.start, *(s.end - len(prompt.text) for s in inside)]
        assert [s.start - len(prompt.text) for s in inside] == borders[:-1]
        assert borders[-1] == part.end
        firsts = [part.token_start, *(s.token_end - n for s in inside)]
        assert [s.token_start - n for s in inside] == firsts[:-1]
        assert firsts[-1] == part.token_end


@relaxed
@given(
    task=TALKS, response=RESPONSES, granularity=st.sampled_from(GRANULARITIES), scope=st.sampled_from(SCOPES)
)
def test_a_scope_is_a_choice_of_all_sources(tokenizer, task, response, granularity, scope):
    gen = answered(tokenizer, task, response)
    chosen = cut_all(gen, granularity, scope)
    assert chosen == [s for s in cut_all(gen, granularity) if in_scope(s, scope)]
    if scope == "context":
        assert chosen == cut(gen.rendered, granularity)


# --------------------------------------------------------------------------------------------- examples


def test_every_source_says_whose_words_it_is():
    history = [Turn("user", "Hi."), Turn("assistant", "Hello.")]
    task = ContextTask(documents=[Document("One", "A.")], query="Who?", system="Be brief.", history=history)
    sources = cut_all(answered(byte_level(), task, "<think>Hm. Well.</think>She. He."), "sentence")
    assert [(s.role, s.turn, s.text) for s in sources] == [
        ("system", None, "Be brief."),
        ("user", 0, "Hi."),
        ("assistant", 1, "Hello."),
        ("title", None, "One"),
        ("context", None, "A."),
        ("query", None, "Who?"),
        ("thought", None, "Hm. "),
        ("thought", None, "Well."),
        ("response", None, "She. "),
        ("response", None, "He."),
    ]


def test_a_scope_that_does_not_exist_is_named():
    with pytest.raises(At2Error, match="scope"):
        cut_all(answered(byte_level(), ContextTask("c", "q"), "r"), "word", "everything")


def test_documents_keep_their_numbers_and_titles_are_no_context():
    documents = [Document("First", "One. Two."), Document("Second", ""), Document("", "Three.")]
    prompt = render(byte_level(), ContextTask(documents=documents, query="q"))
    assert [(s.text, s.document) for s in cut(prompt, "sentence")] == [
        ("One. ", 0),
        ("Two.", 0),
        ("Three.", 2),
    ]
    assert [(s.text, s.document) for s in cut(prompt, "document")] == [("One. Two.", 0), ("Three.", 2)]
    assert [s.text for s in cut(prompt, "document", kinds=("title",))] == ["First", "Second"]


def test_a_source_knows_the_page_it_begins_on():
    text = "One. Two.\n\nThree. Four.\n\nFive."
    paged = Document("a", text, [(text.index("Two"), 4), (text.index("Three"), 7)])
    task = ContextTask(
        documents=[Document("b", "No pages."), paged, Document("c", "One.", [(0, 1)])], query="q"
    )
    gen = answered(byte_level(), task, "r")
    assert [(s.text.strip(), page_of(s, gen)) for s in cut_all(gen, "sentence") if s.role != "title"] == [
        ("No pages.", None), ("One.", None), ("Two.", 4), ("Three.", 7), ("Four.", 7), ("Five.", 7), ("One.", 1),
        ("q", None), ("r", None),
    ]  # fmt: skip
    assert [page_of(s, gen) for s in cut_all(gen, "document", "context")] == [None, None, 1]
    assert page_of(cut_all(answered(byte_level(), ContextTask("c", "q"), "r"), "word")[0], gen) is None


def test_any_kind_of_part_can_be_cut():
    task = ContextTask("c", "Who?", system="Be brief.", history=[Turn("user", "Hi. You?")])
    prompt = render(byte_level(), task)
    assert [s.text for s in cut(prompt, "sentence", kinds=("history", "query"))] == ["Hi. ", "You?", "Who?"]


def test_an_unknown_granularity_is_named():
    with pytest.raises(At2Error, match="'line'"):
        cut(render(byte_level(), ContextTask("c", "q")), "line")


def test_token_sources_join_the_bytes_of_an_emoji():
    assert sources_of("a 🦀!", "token", byte_fallback("never")) == ["a", " ", "🦀", "!"]


def test_words_keep_their_punctuation():
    assert sources_of('He said: "don\'t (ever) pay $3.14!"', "word") == [
        "He ", "said: ", '"don\'t ', "(ever) ", "pay ", '$3.14!"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("你好，世界", ["你", "好，", "世", "界"]),
        ("カタカナと東京", ["カタカナ", "と", "東", "京"]),
        ("ประเทศไทย ดี", ["ประเทศไทย ", "ดี"]),
        ("שלום, צה״ל", ["שלום, ", "צה״ל"]),
        ("مرحبا بكم؟", ["مرحبا ", "بكم؟"]),
        ("e\u0301te\u0301 ❤️ 👩‍👩‍👧🇩🇪", ["e\u0301te\u0301 ", "❤️ ", "👩‍👩‍👧", "🇩🇪"]),
        ("नमस्ते दुनिया", ["नमस्ते ", "दुनिया"]),
        ("well-known a — b", ["well-", "known ", "a ", "— ", "b"]),
        ("\n x", ["\n x"]),
        ("  ", ["  "]),
    ],
)
def test_words_of_many_scripts(text, words):
    assert pieces(split_words(text), text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("See e.g. The Times. Dr. Who paid 3.50 in the U.S. Yes.",
         ["See e.g. The Times. ", "Dr. Who paid 3.50 in the U.S. ", "Yes."]),
        ("1. Foo bar. Baz.\n2. Qux", ["1. Foo bar. ", "Baz.\n", "2. Qux"]),
        ("Items:\n- one\n- two. Three.", ["Items:\n", "- one\n", "- two. ", "Three."]),
        ("| a. | B |\n|----|---|\n| 1. | C |", ["| a. | B |\n", "|----|---|\n", "| 1. | C |"]),
        ("# Title\nText here. More", ["# Title\n", "Text here. ", "More"]),
        ("**Bold.** Then *it.* More", ["**Bold.** ", "Then *it.* ", "More"]),
        ("One.[1] Two.[2] Three", ["One.[1] ", "Two.[2] ", "Three"]),
        ("“Ja.” Er ging. (Nein.)", ["“Ja.” ", "Er ging. ", "(Nein.)"]),
        ("Call obj.Method now. Done", ["Call obj.Method now. ", "Done"]),
        ("What?! No... Yes!!! Ok", ["What?! ", "No... ", "Yes!!! ", "Ok"]),
        ("他说：“好。走吧！”然后走了。3.14是数字。", ["他说：“好。走吧！”", "然后走了。", "3.14是数字。"]),
        ("これは本です。あなたは？はい", ["これは本です。", "あなたは？", "はい"]),
        ("यह एक है। यह दो है। क्या?", ["यह एक है। ", "यह दो है। ", "क्या?"]),
        ("هل أنت بخير؟ نعم. أنا بخير.", ["هل أنت بخير؟ ", "نعم. ", "أنا بخير."]),
        ("Он жил в г. Москва. Т.е. там. Да.", ["Он жил в г. Москва. ", "Т.е. там. ", "Да."]),
        ("One.\n\n\nTwo.\r\nThree", ["One.\n\n\n", "Two.\r\n", "Three"]),
        ("\n\n", ["\n\n"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text, sentences):
    assert pieces(split_sentences(text), text) == sentences


def test_a_sentence_goes_on_over_lines_that_were_broken_to_fit_a_page():
    text = (
        "The quick brown fox jumped over the lazy dog and then went on to visit\n"
        "London, where it met the Queen of England and a number of other small\n"
        "animals that lived there. It was happy."
    )
    assert pieces(split_sentences(text), text) == [text[: text.index("It was")], "It was happy."]


def test_lines_of_a_list_without_marks_stay_apart():
    text = "Mercury\nVenus\nEarth\nA rather longer line that names the planet Mars\nJupiter"
    assert len(split_sentences(text)) == 5


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("One.\nStill one.\n\nTwo.\n \n\n  Three.\n", ["One.\nStill one.\n\n", "Two.\n \n\n", "  Three.\n"]),
        ("One.\nTwo.\n", ["One.\n", "Two.\n"]),
        ("\n\nOne\r\n\r\nTwo", ["\n\nOne\r\n\r\n", "Two"]),
        ("", []),
    ],
)
def test_paragraphs(text, paragraphs):
    assert pieces(split_paragraphs(text), text) == paragraphs


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("unit", ["The cat sat on the mat. ", "你好。", "a\n", "\n", "(1. ", "“", "1."])
def test_long_texts_are_cut_in_time(split, unit):
    begun = time.perf_counter()
    split(unit * (60_000 // len(unit)))
    assert time.perf_counter() - begun < 10


@pytest.mark.default_model
@settings(relaxed, max_examples=40)
@given(task=TASKS, granularity=st.sampled_from(GRANULARITIES))
def test_sources_tile_the_context_for_the_default_model(default_lm, task, granularity):
    prompt = render(default_lm.tokenizer, task)
    covered = [i for s in cut(prompt, granularity) for i in range(s.token_start, s.token_end)]
    parts = [p for p in prompt.parts if p.kind == "context"]
    assert covered == [i for p in parts for i in range(p.token_start, p.token_end)]
    shown = "".join(s.text for s in cut(prompt, granularity))
    assert shown == "".join(prompt.text[p.start : p.end] for p in parts)
