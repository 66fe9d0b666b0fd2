"""Prompts: whatever the text and the tokenizer, every part is where the prompt says it is, and text stays text."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_zoo import FILLED, INST, TEXTS, ZOO, byte_fallback, byte_level
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from at2_core.errors import At2Error, EmptyInput
from at2_core.prompts import (
    ContextTask,
    Document,
    Prompt,
    Turn,
    encode_text,
    follow_up,
    render,
    without_surrogates,
)
from at2_core.sources import cut
from at2_core.tokens import encode

relaxed = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DOCUMENTS = st.lists(st.builds(Document, TEXTS, FILLED), min_size=1, max_size=3)
TURNS = st.lists(st.builds(Turn, st.just("user"), TEXTS), max_size=1)
TASKS = st.one_of(
    st.builds(ContextTask, context=FILLED, query=FILLED, system=st.none() | TEXTS, history=TURNS),
    st.builds(ContextTask, documents=DOCUMENTS, query=FILLED, history=TURNS, context_first=st.booleans()),
)
CONVERSATIONS = st.builds(
    ContextTask,
    documents=DOCUMENTS,
    query=FILLED,
    system=st.none() | TEXTS,
    history=st.builds(lambda q, r: [Turn("user", q), Turn("assistant", r)], FILLED, FILLED),
    context_first=st.just(True),
)


@pytest.fixture(scope="module", params=ZOO)
def tokenizer(request):
    return ZOO[request.param]()


def controls(tokenizer) -> set[int]:
    return {
        i for i, t in tokenizer.added_tokens_decoder.items() if t.content.strip() and t.content != "<unk>"
    }


def spells_a_control(tokenizer, task: ContextTask) -> bool:
    text = "\n".join(fields(task).values())
    added = [t.content for t in tokenizer.added_tokens_decoder.values() if t.content.strip()]
    return any(a in text or a in unicodedata.normalize("NFKC", text) for a in added)


def fields(task: ContextTask) -> dict[tuple, str]:
    given_by_user = {("query", None, None): task.query}
    if task.system is not None:
        given_by_user["system", None, None] = task.system
    for i, turn in enumerate(task.history):
        given_by_user["history", None, i] = turn.content
    for i, document in enumerate(task.documents):
        given_by_user["context", i, None] = document.text
        if document.title.strip():
            given_by_user["title", i, None] = document.title
    if not task.documents:
        given_by_user["context", None, None] = task.context
    return {key: without_surrogates(text) for key, text in given_by_user.items()}


def shown(prompt: Prompt, kind: str) -> list[str]:
    return [prompt.text[p.start : p.end] for p in prompt.parts if p.kind == kind]


@relaxed
@given(task=TASKS)
def test_parts_hold_exactly_what_the_user_gave(tokenizer, task):
    prompt = render(tokenizer, task)
    held = {(p.kind, p.document, p.turn): prompt.text[p.start : p.end] for p in prompt.parts}
    assert held == fields(task)


@relaxed
@given(task=TASKS)
def test_every_character_has_a_token_and_spans_never_go_back(tokenizer, task):
    prompt = render(tokenizer, task)
    assert len(prompt.ids) == len(prompt.offsets) == prompt.n
    covered = {i for start, end in prompt.offsets for i in range(start, end)}
    assert covered == set(range(len(prompt.text)))
    for (s1, e1), (s2, e2) in zip(prompt.offsets, prompt.offsets[1:], strict=False):
        assert s1 <= s2 <= e2
        assert e1 <= e2


@relaxed
@given(task=TASKS)
def test_no_control_token_comes_from_the_user(tokenizer, task):
    prompt = render(tokenizer, task)
    harmless = render(tokenizer, _harmless(task))
    known = controls(tokenizer)
    assert [i for i in prompt.ids if i in known] == [i for i in harmless.ids if i in known]
    for part in prompt.parts:
        assert not known & set(prompt.ids[part.token_start : part.token_end])


def _harmless(task: ContextTask) -> ContextTask:
    documents = [Document("x" if d.title.strip() else "", "x") for d in task.documents]
    history = [Turn(t.role, "x") for t in task.history]
    context = "" if documents else "x"
    system = None if task.system is None else "x"
    return ContextTask(context, "x", documents, history, system, context_first=task.context_first)


@relaxed
@given(task=TASKS)
def test_parts_share_no_token_and_hold_the_tokens_that_begin_in_them(tokenizer, task):
    prompt = render(tokenizer, task)
    reached = 0
    for part in prompt.parts:
        assert reached <= part.token_start <= part.token_end
        reached = part.token_end
        for start, end in prompt.offsets[part.token_start : part.token_end]:
            visible = [i for i in range(start, end) if not prompt.text[i].isspace()]
            assert not visible or part.start <= visible[0] < part.end
            assert start < part.end
            assert end >= part.start


@relaxed
@given(task=TASKS)
def test_ids_are_the_tokenizers_own_where_no_control_string_is_in_the_text(tokenizer, task):
    prompt = render(tokenizer, task)
    with_bos = not tokenizer.chat_template
    if not spells_a_control(tokenizer, task):
        assert prompt.ids == tuple(tokenizer(prompt.text, add_special_tokens=with_bos).input_ids)


@settings(relaxed, max_examples=60)
@given(task=TASKS)
def test_byte_level_ids_decode_to_the_prompt(task, zoo_byte_level):
    prompt = render(zoo_byte_level, task)
    decoded = zoo_byte_level.decode(prompt.ids, clean_up_tokenization_spaces=False)
    assert decoded == prompt.text


@pytest.fixture(scope="module")
def zoo_byte_level():
    return byte_level()


@relaxed
@given(text=TEXTS)
def test_a_response_becomes_tokens_without_control(tokenizer, text):
    ids, offsets = encode_text(tokenizer, text)
    assert not controls(tokenizer) & set(ids)
    assert {i for start, end in offsets for i in range(start, end)} == (
        set(range(len(text))) if ids else set()
    )


def test_prompt_is_what_transformers_makes_of_the_conversation(tokenizer):
    if not tokenizer.chat_template:
        pytest.skip("this tokenizer has no chat template")
    history = [Turn("user", "Hello there"), Turn("assistant", "Hi")]
    prompt = render(tokenizer, ContextTask("The dog sleeps.", "Who sleeps?", history=history))
    messages = [{"role": t.role, "content": t.content} for t in history]
    messages.append({"role": "user", "content": "Context: The dog sleeps.\n\nQuery: Who sleeps?"})
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompt.ids == tuple(ids)


def test_plain_template_gets_the_bos_that_the_tokenizer_adds():
    tokenizer = byte_fallback("first", None, bos=True)
    prompt = render(
        tokenizer, ContextTask("The dog sleeps.", "Who?", system="Be brief.", history=[Turn("user", "Hi")])
    )
    assert prompt.text == "Be brief.\n\nUser: Hi\n\nContext: The dog sleeps.\n\nQuery: Who?\n\nAnswer:"
    assert prompt.ids == tuple(tokenizer(prompt.text).input_ids)
    assert prompt.ids[0] == tokenizer.bos_token_id
    assert prompt.offsets[0] == (0, 0)
    assert prompt.parts[0].token_start == 1


def test_system_message_joins_the_first_user_message_where_the_template_refuses_it():
    tokenizer = ZOO["byte fallback, strict template"]()
    task = ContextTask("c", "q", system="Be brief.", history=[Turn("user", "Hi"), Turn("assistant", "Yes?")])
    prompt = render(tokenizer, task)
    assert "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>" in prompt.text
    assert shown(prompt, "system") == ["Be brief."]


def test_neighbours_of_one_role_are_joined_where_the_template_demands_alternation():
    tokenizer = ZOO["byte fallback, strict template"]()
    prompt = render(tokenizer, ContextTask("c", "q", history=[Turn("user", "One"), Turn("user", "Two")]))
    assert "<start_of_turn>user\nOne\n\nTwo\n\nContext: c\n\nQuery: q<end_of_turn>" in prompt.text


def test_a_conversation_that_the_template_cannot_show_is_refused_in_its_own_words():
    tokenizer = ZOO["byte fallback, strict template"]()
    with pytest.raises(At2Error, match="roles must alternate"):
        render(tokenizer, ContextTask("c", "q", history=[Turn("assistant", "I begin")]))


def test_a_template_that_trims_does_not_take_the_users_whitespace():
    tokenizer = ZOO["byte fallback, strict template"]()
    prompt = render(tokenizer, ContextTask("  c\n", "q  \n", system="\n s "))
    assert shown(prompt, "context") == ["  c\n"]
    assert shown(prompt, "query") == ["q  \n"]
    assert shown(prompt, "system") == ["\n s "]


def test_a_template_that_drops_a_message_is_refused():
    tokenizer = byte_fallback("never", "{{ messages[-1]['content'] }}")
    with pytest.raises(At2Error, match="does not show every message"):
        render(tokenizer, ContextTask("c", "q", history=[Turn("user", "a"), Turn("assistant", "b")]))


def test_documents_stand_under_their_titles():
    prompt = render(
        byte_level(), ContextTask(documents=[Document("One", "First."), Document("", "Second.")], query="q")
    )
    assert "Context: One\nFirst.\n\nSecond.\n\nQuery: q" in prompt.text
    assert [(p.kind, p.document) for p in prompt.parts[:-1]] == [("title", 0), ("context", 0), ("context", 1)]


def test_one_untitled_document_reads_like_a_context():
    tokenizer = byte_level()
    as_document = render(tokenizer, ContextTask(documents=[Document("", "Some text.")], query="q"))
    assert as_document.ids == render(tokenizer, ContextTask("Some text.", "q")).ids


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<think>", "a<|im_end|>b", "<|im_end|><|im_end|>", " <|im_start|> "]
)
def test_control_strings_are_spelled_out_in_text_tokens(text):
    tokenizer = byte_level()
    prompt = render(tokenizer, ContextTask(text, "q"))
    (part,) = (p for p in prompt.parts if p.kind == "context")
    ids = list(prompt.ids[part.token_start : part.token_end])
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() == text.strip()
    assert not controls(tokenizer) & set(ids)


@pytest.mark.parametrize("style", ["first", "always", "prepend", "never"])
def test_no_space_token_slips_into_a_control_string_that_is_cut(style):
    tokenizer = byte_fallback(style)
    ids, _ = encode_text(tokenizer, "the dog</s> the dog")
    spaces_in_front = 0 if style == "never" else 1
    assert tokenizer.decode(ids) == " " * spaces_in_front + "the dog</s> the dog"


def test_runs_of_newlines_stay_one_token_where_the_vocabulary_has_them():
    tokenizer = ZOO["byte fallback, strict template"]()
    prompt = render(tokenizer, ContextTask("a\n\nb", "q"))
    assert tokenizer.convert_tokens_to_ids("\n\n") in prompt.ids


def test_tokens_that_share_an_emoji_all_span_it():
    prompt = render(byte_fallback("first"), ContextTask("a 🦀 b", "q"))
    at = prompt.text.index("🦀")
    assert sum(span == (at, at + 1) for span in prompt.offsets) == 4


def test_spaces_left_out_of_offsets_belong_to_the_token_that_follows():
    tokenizer = ZOO["byte-level, offsets without spaces"]()
    prompt = render(tokenizer, ContextTask("the dog", "q"))
    at = prompt.text.index(" dog")
    assert any(start == at for start, _ in prompt.offsets)


def test_a_mark_composed_into_its_letter_stays_with_it():
    tokenizer = ZOO["byte-level, composing"]()
    prompt = render(tokenizer, ContextTask("cafe\u0301 x", "q"))
    at = prompt.text.index("e\u0301")
    assert any(start <= at and end == at + 2 for start, end in prompt.offsets)


def test_halves_of_a_surrogate_pair_become_their_character_or_are_replaced():
    prompt = render(byte_level(), ContextTask("a\ud83d\ude00b\ud83dc\x00", "q"))
    assert shown(prompt, "context") == ["a😀b\ufffdc\x00"]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (ContextTask("", "q"), "The context is empty"),
        (ContextTask(" \n\t", "q"), "The context is empty"),
        (ContextTask("c", " "), "The query is empty"),
        (
            ContextTask(query="q", documents=[Document("Title", " "), Document("", "")]),
            "All documents are empty",
        ),
    ],
)
def test_empty_input_is_named(task, sentence):
    with pytest.raises(EmptyInput, match=sentence):
        render(byte_level(), task)


@pytest.mark.parametrize(
    "task",
    [
        ContextTask(context=None, query="q"),
        ContextTask("c", b"q"),
        ContextTask("c", "q", history=[Turn("system", "x")]),
        ContextTask("c", "q", documents=[Document("", "d")]),
        ContextTask("c", "q", documents=["d"]),
        ContextTask("c", "q", history=[("user", "d")]),
        ContextTask(query="q", documents=[Document("", "d", [(0, "1")])]),
        ContextTask(query="q", documents=[Document("", "two", [(1, 1), (0, 2)])]),
    ],
)
def test_what_is_no_task_is_refused_in_a_sentence(task):
    with pytest.raises(At2Error, match=r"\.$"):
        render(byte_level(), task)


def test_pages_are_no_part_of_the_prompt():
    task = ContextTask(query="q", documents=[Document("a", "One.", [(0, 7)])])
    assert render(byte_level(), task) == render(
        byte_level(), ContextTask(query="q", documents=[Document("a", "One.")])
    )
    assert hash(task)  # lists become tuples


def test_a_context_that_the_tokenizer_cannot_tell_from_its_title_is_refused():
    vocabulary = {token: i for i, token in enumerate(["<unk>", *dict.fromkeys(" :ContextQueryAnsw")])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    with pytest.raises(EmptyInput, match="The context holds no character"):
        render(
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"),
            ContextTask(documents=[Document("你", "好")], query="q"),
        )


def test_an_empty_document_among_others_keeps_its_place():
    prompt = render(byte_level(), ContextTask(query="q", documents=[Document("", ""), Document("", "x")]))
    empty, full = (p for p in prompt.parts if p.kind == "context")
    assert (empty.start, empty.token_start) == (empty.end, empty.token_end)
    assert full.document == 1


def test_a_prompt_is_made_of_plain_values():
    prompt = render(byte_level(), ContextTask("c", "q"))
    assert all(type(i) is int for i in prompt.ids)
    assert all(type(i) is int for span in prompt.offsets for i in span)
    assert asdict(prompt)["parts"][0]["kind"] == "context"


def test_a_thousand_control_strings_are_read_in_time():
    prompt = render(byte_fallback("first", INST), ContextTask("</s> x " * 1000, "q"))
    assert prompt.ids.count(2) == 0


# --------------------------------------------------------------------------------------------- conversations


@relaxed
@given(task=CONVERSATIONS)
def test_a_conversation_holds_exactly_what_was_said(tokenizer, task):
    prompt = render(tokenizer, task)
    held = {(p.kind, p.document, p.turn): prompt.text[p.start : p.end] for p in prompt.parts}
    assert held == fields(task)
    assert [p.kind for p in prompt.parts if p.kind in ("context", "history", "query")] == [
        *["context"] * len(task.documents), "history", "history", "query",
    ]  # fmt: skip


@pytest.mark.parametrize("response", ["He sleeps.", " He sleeps.", "No <|im_end|> ends it.\n"])
def test_a_follow_up_begins_with_what_was_read_and_written_before(tokenizer, response):
    task = ContextTask(documents=[Document("One", "The dog sleeps."), Document("", "Zürich.")], query="Who?")
    first = render(tokenizer, task)
    second = render(tokenizer, follow_up(task, response, "And where?"))
    third = render(tokenizer, follow_up(follow_up(task, response, "And where?"), " There.", "Why?"))
    assert second.text.startswith(first.text)
    assert third.text.startswith(second.text)
    assert (
        second.ids[: first.n - 1] == first.ids[:-1]
    )  # the last token may take the response's first character
    assert third.ids[: second.n - 1] == second.ids[:-1]
    assert shown(third, "history") == ["Who?", response, "And where?", " There."]
    assert [p.turn for p in third.parts if p.kind == "history"] == [0, 1, 2, 3]


def test_the_context_stands_with_the_first_of_the_users_turns():
    history = [Turn("user", "One?"), Turn("assistant", "1"), Turn("user", "Two?"), Turn("assistant", "2")]
    messages = [{"role": t.role, "content": t.content} for t in history]
    messages[0]["content"] = "Context: C\n\nQuery: One?"
    messages.append({"role": "user", "content": "Three?"})
    tokenizer = byte_level()
    prompt = render(tokenizer, ContextTask("C", "Three?", history=history, context_first=True))
    assert prompt.ids == tuple(
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    )


def test_without_a_turn_of_the_user_the_context_stands_with_the_query():
    task = ContextTask("C", "Q", history=[Turn("assistant", "Welcome")])
    first = ContextTask("C", "Q", history=[Turn("assistant", "Welcome")], context_first=True)
    assert render(byte_level(), first) == render(byte_level(), task)


def test_a_conversation_of_a_base_model_reads_on():
    tokenizer = byte_fallback("first", None)
    task = ContextTask("C", "One?", system="Be brief.")
    text = render(tokenizer, follow_up(follow_up(task, " 1", "Two?"), "2", "Three?")).text
    assert text == (
        "Be brief.\n\nContext: C\n\nQuery: One?\n\nAnswer: 1\n\nQuery: Two?\n\nAnswer: 2\n\nQuery: Three?\n\nAnswer:"
    )


# ------------------------------------------------------------------------------------- prompts given whole


@st.composite
def marked(draw):
    text = draw(FILLED)
    borders = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    marks = list(zip(borders[::2], borders[1::2], strict=False))
    return text, [mark for mark in marks if draw(st.booleans())]


def whole(tokenizer, text, marks=(), **options) -> Prompt | None:
    try:
        return render(tokenizer, ContextTask(prompt=text, marked=marks, **options))
    except EmptyInput:
        return None  # nothing that can be read is marked


@settings(relaxed, max_examples=40)
@given(given_whole=marked(), control_tokens=st.booleans())
def test_a_whole_prompt_is_read_as_it_stands_and_its_marks_are_the_context(
    tokenizer, given_whole, control_tokens
):
    text, marks = given_whole
    prompt = whole(tokenizer, text, marks, control_tokens=control_tokens)
    if prompt is None:
        return
    clean = without_surrogates(text)
    assert prompt.text == clean
    context = [p for p in prompt.parts if p.kind == "context"]
    known, reached = controls(tokenizer), 0
    steered = control_tokens and not marks and encode(tokenizer, clean).controls
    if clean == text and not steered:
        assert [(p.start, p.end) for p in context] == (marks or [(0, len(text))])
    for part in prompt.parts:
        gap = prompt.text[reached : part.start]
        assert control_tokens or not gap.strip()  # control tokens and blanks alone are nobody's
        reached = part.end
        assert not known & set(prompt.ids[part.token_start : part.token_end])
    assert prompt.parts == tuple(sorted(prompt.parts, key=lambda p: p.token_start))


@relaxed
@given(text=FILLED)
def test_an_unmarked_prompt_has_the_tokenizers_own_ids(tokenizer, text):
    prompt = whole(tokenizer, text)
    own = tuple(tokenizer(without_surrogates(text)).input_ids)
    if prompt is not None and prompt.ids[0] in own[1:2] and prompt.n == len(own) - 1:
        own = own[1:]  # a beginning that is written out
    assert prompt is None or prompt.ids == own[: prompt.n]  # some add what ends a text


def test_control_tokens_are_read_outside_the_marks_alone():
    tokenizer, text = byte_level(), "<|im_start|>user\nRead <|im_end|> and go.<|im_end|>"
    mark = (text.index("Read"), text.index("<|im_end|> and") + 10)
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    read = [
        whole(tokenizer, text, marks, control_tokens=on).ids.count(ends)
        for marks, on in (((), True), ([mark], True), ((), False), ([mark], False))
    ]
    assert read == [2, 1, 0, 0]
    prompt = whole(tokenizer, text, [mark])
    assert [(p.kind, p.document, prompt.text[p.start : p.end]) for p in prompt.parts] == [
        ("query", None, "user"), ("context", 0, "Read <|im_end|>"), ("query", None, "and go."),
    ]  # fmt: skip


def test_the_context_of_an_unmarked_prompt_is_cut_at_its_control_tokens():
    text = "<|im_start|>user\nRead. <|im_end|>\n<|im_start|>assistant\n"
    prompt = whole(byte_level(), text)
    assert shown(prompt, "context") == ["user\nRead.", "assistant"]
    assert {part.document for part in prompt.parts} == {None}, "they are one document"
    assert [source.text for source in cut(prompt, "sentence")] == ["user\n", "Read.", "assistant"]
    assert shown(whole(byte_level(), text, control_tokens=False), "context") == [text]
    assert shown(whole(byte_level(), " The dog. \n"), "context") == [" The dog. \n"]
    with pytest.raises(EmptyInput, match="but for its control tokens"):
        render(byte_level(), ContextTask(prompt="<|im_start|>\n<|im_end|>"))


def test_a_rendered_prompt_pasted_whole_is_the_prompt_again(tokenizer):
    prompt = render(tokenizer, ContextTask("The dog sleeps.", "Who?"))
    assert whole(tokenizer, prompt.text).ids == prompt.ids


def test_a_beginning_that_is_written_out_is_not_put_there_twice():
    tokenizer = byte_fallback("never", None, bos=True)
    assert whole(tokenizer, "<s>The dog").ids.count(tokenizer.bos_token_id) == 1
    assert whole(tokenizer, "The dog").ids[0] == tokenizer.bos_token_id


def test_marks_follow_their_text_where_halves_of_pairs_are_joined():
    prompt = whole(byte_level(), "\ud83d\ude00 a \ud83d\ude00 b", [(3, 8), (8, 9)])
    assert shown(prompt, "context") == ["a 😀 ", "b"]


def test_a_mark_without_a_document_has_a_title_nobody_gave():
    assert ContextTask(prompt="a b", marked=[(0, 1), (2, 3)]).titles == ("", "")
    assert ContextTask("c", "q").titles == ("",)
    assert ContextTask(documents=[Document("T", "t")]).titles == ("T",)


@pytest.mark.parametrize("task", [
    ContextTask(prompt="ab", query="q"),
    ContextTask(prompt="ab", system=""),
    ContextTask(prompt="ab", marked=[(0, 3)]),
    ContextTask(prompt="ab", marked=[(1, 1)]),
    ContextTask(prompt="abc", marked=[(0, 2), (1, 3)]),
    ContextTask(prompt="ab", marked=[(0, 1, 2)]),
    ContextTask(prompt="ab", marked=[(0.0, 1)]),
    ContextTask(prompt=b"ab"),
    ContextTask("c", "q", marked=[(0, 1)]),
])  # fmt: skip
def test_what_is_no_whole_prompt_is_refused_in_a_sentence(task):
    with pytest.raises(At2Error, match=r"\.$"):
        render(byte_level(), task)


def test_a_whole_prompt_has_no_follow_up():
    with pytest.raises(At2Error, match="no follow-up"):
        follow_up(ContextTask(prompt="ab"), "c", "d")
    with pytest.raises(EmptyInput, match="prompt is empty"):
        render(byte_level(), ContextTask(prompt=" \n"))


@pytest.mark.default_model
@settings(relaxed, max_examples=40)
@given(task=TASKS)
def test_default_model_reads_text_as_text(default_lm, task):
    tokenizer = default_lm.tokenizer
    prompt = render(tokenizer, task)
    known = controls(tokenizer)
    assert [i for i in prompt.ids if i in known] == [
        i for i in render(tokenizer, _harmless(task)).ids if i in known
    ]
    # The vocabulary lacks the tokens of 21 bytes, which some control characters and planes need.
    alphabet = {
        c for piece, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str(prompt.text) for c in piece
    }
    if alphabet <= set(tokenizer.get_vocab()):
        assert tokenizer.decode(prompt.ids, clean_up_tokenization_spaces=False) == prompt.text
    if not spells_a_control(tokenizer, task):
        assert prompt.ids == tuple(tokenizer(prompt.text, add_special_tokens=False).input_ids)
