"""Data in: every format gives the same examples, and a row that cannot be used is counted with its reason."""

from __future__ import annotations

import hashlib
import json
import sys
import types

import pandas as pd
import pytest

import at2_core as at2
from at2_core.data import Columns, parse_examples, read_data, read_examples

ROWS = [
    {"question": "Who?", "passage": "Ann came, “late”.\nBo did not.", "key": "a", "answer": "Ann"},
    {"question": "Where?", "passage": "In Österreich 🌲.", "key": "b", "answer": "there"},
]


def write(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    if suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    elif suffix == ".json":
        path.write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")
    elif suffix == ".csv":
        pd.DataFrame(ROWS).to_csv(path, index=False)
    else:
        pd.DataFrame(ROWS).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_examples(tmp_path, suffix):
    found = read_data(write(tmp_path, suffix))
    assert [(e.id, e.task.query, e.task.context) for e in found.examples] == [
        (r["key"], r["question"], r["passage"]) for r in ROWS
    ]
    assert found.unusable == []
    assert found.columns.response is None
    assert all(e.response is None for e in found.examples)


def test_a_mapped_response_is_taken_and_a_guessed_one_never(tmp_path):
    path = write(tmp_path, ".jsonl")
    assert [e.response for e in read_data(path, {"response": "answer"}).examples] == ["Ann", "there"]
    own = tmp_path / "own.jsonl"
    own.write_text('{"query": "Q", "context": "C", "response": "R"}')
    assert read_data(own).examples[0].response == "R"
    foreign = tmp_path / "dolly.jsonl"
    foreign.write_text('{"instruction": "Q", "context": "C", "response": "R"}')
    assert read_data(foreign).examples[0].response is None


def test_rows_that_cannot_be_used_are_counted_with_the_reason(tmp_path):
    path = tmp_path / "d.jsonl"
    good = '{"query": "Q", "context": "C"}'
    bad = [
        "nonsense",
        "[]",
        '{"context": "C"}',
        '{"query": " ", "context": "C"}',
        '{"query": "Q", "context": null}',
        '{"query": "Q", "documents": [5]}',
        '{"query": "Q", "documents": {"a": 1}}',
        '{"query": "Q", "documents": [{"title": "t"}]}',
        "{" * 100_000,
        json.dumps({"query": "Q", "documents": "[" * 100_000}),
    ]
    path.write_text("\n".join([good, *bad, good]))
    found = read_data(path)
    assert len(found.examples) == 2
    assert [u.row for u in found.unusable] == list(range(2, 12))
    assert sum(found.reasons().values()) == 10
    assert found.reasons()["no query"] == 2
    assert all(reason and "\n" not in reason for reason in found.reasons())


def test_documents_come_as_lists_as_json_in_a_cell_and_as_plain_texts(tmp_path):
    documents = [{"title": "T", "text": "One."}, {"sentences": ["Two.", "Three."]}, "Four."]
    expected = (at2.Document("T", "One."), at2.Document("", "Two. Three."), at2.Document("", "Four."))
    lines = tmp_path / "d.jsonl"
    lines.write_text(json.dumps({"query": "Q", "documents": documents}))
    table = tmp_path / "d.csv"
    pd.DataFrame([{"query": "Q", "documents": json.dumps(documents)}]).to_csv(table, index=False)
    for path in (lines, table):
        assert read_data(path).examples[0].task.documents == expected


def test_an_empty_cell_is_no_context(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("query,context\nQ,\nQ,C\n")
    found = read_data(path)
    assert len(found.examples) == 1
    assert found.reasons() == {"no context and no documents": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"query": "nope"}, "no column 'nope'; it has question, passage, key, answer"),
        ({"questions": "question"}, "'questions' is no role"),
    ],
)
def test_a_wrong_mapping_says_what_there_is(tmp_path, columns, says):
    with pytest.raises(at2.DataError, match=says):
        read_data(write(tmp_path, ".jsonl"), columns)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.txt", b"x", "none of .jsonl"),
        ("d.json", b"{", "cannot be read as .json"),
        ("d.json", b"5", "neither a list nor a record"),
        ("d.parquet", b"PAR1", "cannot be read as .parquet"),
        ("d.csv", b"", "cannot be read as .csv"),
        ("d.jsonl", b"", "no row"),
        ("d.jsonl", b'{"a": 1}', "known to hold a query; say which of a does"),
        ("d.jsonl", b'{"query": "q", "b": 1}', "a context or documents"),
        ("d.jsonl", b"\xff\xfe\x00", "no row"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(at2.DataError, match=says) as caught:
        read_data(path)
    assert len(str(caught.value)) < 400


def test_a_missing_file_and_a_folder_without_explorations(tmp_path):
    with pytest.raises(at2.DataError, match="no file"):
        read_data(tmp_path / "none.jsonl")
    with pytest.raises(at2.DataError, match="no saved explorations"):
        read_data(tmp_path)


def test_saved_explorations_are_examples():
    from at2_core.exploration import GALLERY, load

    found = read_data(GALLERY)
    assert len(found.examples) >= 6
    first = load(min(GALLERY.glob("*.safetensors")))
    assert found.examples[0].task == first.task
    assert found.examples[0].response == first.text


def test_a_damaged_exploration_is_counted(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    found = read_data(tmp_path)
    assert found.examples == []
    assert len(found.unusable) == 1


def test_a_hub_data_set_needs_datasets_and_comes_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(at2.DataError, match="needs the package datasets"):
        read_data("hub:owner/name")
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        if name == "owner/none":
            raise FileNotFoundError("offline")
        return ROWS

    old = types.SimpleNamespace(
        load_dataset=load_dataset, __version__="3.6.0"
    )  # it would run a data set's own code
    monkeypatch.setitem(sys.modules, "datasets", old)
    with pytest.raises(at2.DataError, match="version 4 or later"):
        read_data("hub:owner/name")
    new = types.SimpleNamespace(load_dataset=load_dataset, __version__="4.1.0")
    monkeypatch.setitem(sys.modules, "datasets", new)
    assert len(read_data("hub:owner/name@validation").examples) == 2
    with pytest.raises(at2.DataError, match="neither found nor downloaded"):
        read_data("hub:owner/none")
    assert asked == [("owner/name", "validation"), ("owner/none", "train")]


def test_examples_with_the_same_context_have_one_group():
    a, b, c = (at2.ContextTask(context=t, query=q) for t, q in (("x", "1"), ("x", "2"), ("y", "1")))
    from at2_core.data import Example

    groups = [Example("i", t).group for t in (a, b, c)]
    assert groups[0] == groups[1] != groups[2]


def test_an_example_keeps_its_name_whatever_pages_its_documents_have():
    from at2_core.data import Example

    plain, paged = (Example("i", at2.ContextTask(documents=[at2.Document("a", "b", pages)], query="q"))
                    for pages in ((), ((0, 1),)))  # fmt: skip
    assert plain.key == paged.key
    assert plain.group == paged.group
    documents = '[{"title": "a", "text": "b"}]'  # as files were named before there were pages
    assert plain.group == hashlib.sha256(f'["", {documents}]'.encode()).hexdigest()[:16]


def test_our_own_format_is_read_strictly(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"id": "a", "context": "C", "query": "Q"}\n\n'
        '{"query": "Q", "documents": [{"title": null, "sentences": ["One.", "Two."]}], "response": "R"}\n'
    )
    first, second = read_examples(path)
    assert (first.id, first.task.context) == ("a", "C")
    assert second.task.documents == (at2.Document("", "One. Two."),)
    assert second.response == "R"


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"context": "C"}', '{"query": "Q", "documents": [5]}'])
def test_a_line_that_is_no_example_is_named(line):
    with pytest.raises(at2.DataError, match=r"Line 2 of f\.jsonl"):
        list(parse_examples(['{"context": "C", "query": "Q"}', line], "f.jsonl"))


def test_columns_have_the_names_of_our_own_format():
    assert Columns().query == "query"
    assert Columns().response is None


def test_no_column_can_be_asked_for(tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text('{"query": "Q", "context": "C", "response": "R", "source": "S"}')
    found = read_data(own, {"response": "", "origin": ""})
    assert (found.examples[0].response, found.examples[0].origin) == (None, "")
    assert found.names == ("query", "context", "response", "source")
    with pytest.raises(at2.DataError, match="known to hold a query"):
        read_data(own, {"query": ""})


DOCUMENTS = [
    {"title": "A", "sentences": ["One.", "Two."]},
    {"title": "B", "text": None, "sentences": ["Three."]},
]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ([[0, 1], [1, 0]], ["Two.", "Three."]),
        ("[[1, 0]]", ["Three."]),
        ([[True, False], [0, 9], [7, 0], ["B", 0], [0, -1], "x", None, [0]], []),
        ({"title": ["A"], "sent_id": [0]}, []),
        ("nonsense", []),
        (None, []),
    ],
)
def test_true_sentences_are_spans_of_their_documents(tmp_path, facts, found):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"query": "Q?", "documents": DOCUMENTS, "supporting_facts": facts}))
    (example,) = read_data(path).examples
    assert [example.task.documents[d].text[a:b] for d, a, b in example.truth] == found


@pytest.mark.parametrize(
    ("answer", "read"), [(1969, "1969"), (" ", None), (True, None), (["a"], None), ("x\ud800", "x\ufffd")]
)
def test_an_answer_is_a_text_or_a_number(tmp_path, answer, read):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"query": "Q?", "context": "One.", "answer": answer}))
    assert read_data(path).examples[0].answer == read
