"""The form of the Train page: examples of any kind, what is typed is kept, and a start makes one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import data
from at2_core.runs import Settings
from pages.ui import draft as drafts
from pages.ui import session, train_draft, train_process, train_reading, train_runs
from tests.pages.driving import MARKUP, opened, ran, texts, until


def given(path: Path | str) -> AppTest:
    """The form, with the path of a file entered."""
    at = opened("train")
    at.segmented_control(key="train-kind").set_value(drafts.PATH)
    ran(at.run())
    at.text_input(key="train-path").set_value(str(path))
    return ran(at.run())


# ------------------------------------------------------------------------------------------------- a new run


def test_an_empty_page_says_what_training_is_for_and_what_to_do_first(runs):
    at = opened("train")
    assert "how much each attention head of a model counts" in texts(at)
    assert "Begin with a file" in texts(at)
    assert at.button(key="train-start").disabled
    assert at.text_input(key="train-model").value == session.MODEL
    assert "draft" not in at.query_params
    assert not runs.exists(), "looking leaves nothing behind"


def test_a_file_shows_how_many_rows_can_be_used_why_not_the_others_and_its_columns(runs, foxes):
    at = given(foxes)
    assert "12 of 15 rows can be used." in texts(at)
    table = at.dataframe[0].value
    assert dict(zip(table["why not"], table["for instance row"], strict=True)) == {
        "no context and no documents": 13,
        "no query": 14,
        "not a record with columns": 15,
    }
    picked = {role: at.selectbox(key=f"train-column-{role}").value for role in train_draft.ROLES}
    assert picked["query"] == "query"
    assert picked["context"] == "context"
    assert set(picked.values()) == {"query", "context", ""}
    assert at.number_input(key="train-examples").value == 12
    assert not at.button(key="train-start").disabled


def test_the_first_three_examples_are_shown_as_text(runs, foxes):
    at = given(foxes)
    assert "What does fox 0 do?" in texts(at)
    assert MARKUP in texts(at)
    assert "What does fox 2 do?" in texts(at)
    assert "fox 3" not in texts(at)
    assert not [m.value for m in at.markdown if "evil" in m.value]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "There is no file"),
        ("notes.txt", b"hello", "is none of .jsonl"),
        ("broken.parquet", b"PAR1nothing", "cannot be read as .parquet"),
        ("broken.json", b"{", "cannot be read as .json"),
        ("empty.jsonl", b"", "has no row that is a record"),
        ("odd.csv", b"frage,text\nWas?,Ein Text.\n", "no column that is known to hold a query"),
        ("rows.jsonl", b'{"query": "", "context": ""}\n', "None of the rows can be used"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(runs, tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    at = given(tmp_path / name)
    assert texts(at).count(says) == 1
    assert str(tmp_path / name) not in texts(at) or content is None
    assert at.button(key="train-start").disabled


def test_columns_that_nobody_can_guess_can_be_chosen(runs, tmp_path):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\nWer?,Noch ein Text.\n")
    at = given(tmp_path / "odd.csv")
    at.selectbox(key="train-column-query").set_value("frage")
    ran(at.run())
    assert "2 of 2 rows can be used." in texts(at)
    assert "Was?" in texts(at)
    assert not at.button(key="train-start").disabled


def test_another_file_starts_from_its_own_columns(runs, tmp_path, foxes):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\n")
    at = given(tmp_path / "odd.csv")
    at.selectbox(key="train-column-query").set_value("frage")
    ran(at.run())
    at.text_input(key="train-path").set_value(str(foxes))
    ran(at.run())
    assert at.selectbox(key="train-column-query").value == "query"
    assert "12 of 15" in texts(at)


def test_a_reload_finds_the_upload_and_the_settings_again(runs, foxes):
    at = opened("train")
    at.file_uploader[0].upload(foxes.name, foxes.read_bytes(), "application/json")
    ran(at.run())
    at.number_input(key="train-ablations").set_value(17)
    ran(at.run())
    draft = at.query_params["draft"]
    again = opened("train", draft=draft)
    assert "foxes.jsonl" in texts(again)
    assert "12 of 15 rows" in texts(again)
    assert again.number_input(key="train-ablations").value == 17
    assert again.number_input(key="train-examples").value == 12


def test_other_data_begins_with_the_usual_number_of_examples(runs, tmp_path, foxes):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(foxes.read_text().splitlines()[:4]))
    at = given(few)
    assert at.number_input(key="train-examples").value == 4
    at.number_input(key="train-examples").set_value(2)
    assert ran(at.run()).number_input(key="train-examples").value == 2
    again = opened("train", draft=at.query_params["draft"])
    assert again.number_input(key="train-examples").value == 2
    at.text_input(key="train-path").set_value(str(foxes))
    assert ran(at.run()).number_input(key="train-examples").value == 12


def test_an_upload_of_another_kind_is_one_sentence(runs):
    at = opened("train")
    with pytest.raises(at2.At2Error, match=r"x.exe is none of .jsonl"):
        train_draft.FORM.take("../x.exe", b"MZ")
    assert not runs.exists()
    assert at.button(key="train-start").disabled


def test_a_form_that_was_cleared_is_clear_after_a_reload(runs):
    at = given("/nowhere.jsonl")
    draft = at.query_params["draft"]
    at.text_input(key="train-path").set_value("")
    at.segmented_control(key="train-kind").set_value(drafts.UPLOAD)
    ran(at.run())
    assert opened("train", draft=draft).segmented_control(key="train-kind").value == drafts.UPLOAD


def test_half_a_character_is_shown_as_what_can_be_sent(runs, tmp_path):
    file = tmp_path / "half.jsonl"
    half = '"a\\ud83d?"'
    file.write_text(
        f'{{"query": {half}, "context": {half}, {half}: 1}}\n{{"query": "q", "documents": [{{{half}: 1}}]}}\n'
    )
    at = given(file)
    assert "1 of 2 rows can be used." in texts(at)
    ran(at.selectbox(key="train-column-id").select_index(-1).run())


def test_what_cannot_be_guessed_is_read_once(runs, tmp_path, monkeypatch):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\n")
    read, times = data.read_data, []
    monkeypatch.setattr(data, "read_data", lambda *asked: (times.append(asked), read(*asked))[1])
    at = given(tmp_path / "odd.csv")
    before = len(times)
    ran(at.run())
    assert len(times) == before
    assert "no column that is known to hold" in texts(at)


def test_columns_of_a_data_set_that_nobody_can_guess_can_be_typed(runs, monkeypatch):
    monkeypatch.setattr(data, "hub_rows", lambda name: [(1, {"frage": "Was?", "text": "Ein Text."})])
    at = opened("train")
    at.segmented_control(key="train-kind").set_value(drafts.HUB)
    ran(at.run())
    at.text_input(key="train-hub").set_value("owner/odd")
    ran(at.run())
    assert "say which of frage, text does" in texts(at)
    assert at.selectbox(key="train-column-query").proto.accept_new_options
    states = at._tree.get_widget_states()  # AppTest knows no way to type an option that is not offered
    typed = {at.selectbox(key=f"train-column-{role}").proto.id: name
             for role, name in {"query": "frage", "context": "text"}.items()}  # fmt: skip
    for widget in states.widgets:
        if widget.id in typed:
            widget.string_value = typed[widget.id]
    ran(at._run(states))
    assert "1 of 1 rows can be used." in texts(at)
    assert not at.button(key="train-start").disabled


def test_a_hub_that_did_not_answer_is_asked_again(runs, monkeypatch):
    answers = [OSError("no network"), [(1, {"query": "Was?", "context": "Ein Text."})]]

    def hub_rows(name: str):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(data, "hub_rows", hub_rows)
    assert "no network" in train_reading.look("hub:owner/name").complaint
    assert train_reading.look("hub:owner/name").examples is not None


@pytest.mark.parametrize("draft", ["../../etc", "zzzz", "", "0" * 12, "0" * 12 + "/.."])
def test_an_address_that_names_no_draft_gives_an_empty_form(runs, draft):
    assert "Begin with a file" in texts(opened("train", draft=draft))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"ablations": "many", "kind": "x", "seed": -1, "upload": "../x"}']
)
def test_a_damaged_draft_is_an_empty_form(runs, content):
    folder = runs / ".drafts" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(content)
    at = opened("train", draft="a" * 12)
    assert at.number_input(key="train-ablations").value == Settings.num_ablations


# ------------------------------------------------------------------------------------------------- its start


def test_start_writes_down_what_was_chosen_and_shows_the_run(runs, foxes, monkeypatch):
    started = []
    monkeypatch.setattr(
        train_process, "start", lambda run, command: started.append((run.name, command)) or True
    )
    at = opened("train")
    at.file_uploader[0].upload(foxes.name, foxes.read_bytes(), "application/json")
    ran(at.run())
    for field, value in {
        "examples": 5,
        "ablations": 8,
        "new-tokens": 9,
        "prompt-tokens": 99,
        "fit-seed": 3,
    }.items():
        at.number_input(key=f"train-{field}").set_value(value)
    at.segmented_control(key="train-granularity").set_value("word")
    at.text_input(key="train-licence").set_value("CC0")
    ran(at.run())
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    request = run.request()
    assert at.query_params["run_folder"] == run.name
    assert "draft" not in at.query_params
    assert started == [(run.name, "learn")]
    assert request.settings == Settings(8, granularity="word", max_new_tokens=9, max_prompt_tokens=99)
    assert (request.model, request.max_examples, dict(request.fit)) == (session.MODEL, 5, {"seed": 3})
    assert dict(request.about) == {"name": "foxes.jsonl", "licence": "CC0"}
    assert request.data == str(run.folder / "data-foxes.jsonl")
    assert Path(request.data).read_bytes() == foxes.read_bytes()


def test_a_run_has_the_last_edit_also_where_the_click_comes_with_it(runs, foxes, monkeypatch):
    monkeypatch.setattr(train_process, "start", lambda run, command: True)
    at = given(foxes)
    at.number_input(key="train-ablations").set_value(8)
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    assert run.request().settings.num_ablations == 8


def test_a_click_that_comes_after_the_start_shows_the_run(runs, foxes, monkeypatch):
    monkeypatch.setattr(train_process, "start", lambda run, command: True)
    at = given(foxes)
    draft = at.query_params["draft"]
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    at.query_params.clear()
    at.query_params["draft"] = draft  # the browser did not know of the run's address yet
    ran(at.run())
    assert len(train_runs.runs()) == 1
    assert "".join(at.query_params["run_folder"]) == run.name


def test_a_second_click_starts_nothing(runs, foxes, monkeypatch):
    from pages.ui import train_form

    started = []
    monkeypatch.setattr(train_process, "start", lambda run, command: started.append(run.name) or True)
    once = train_form.start
    monkeypatch.setattr(train_form, "start", lambda *args: (once(*args), once(*args)))
    at = given(foxes)
    at.button(key="train-start").click()
    ran(at.run())
    assert len(started) == 1
    assert len(train_runs.runs()) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(runs, foxes):
    at = given(foxes)
    for path in sorted(runs.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    runs.rmdir()
    runs.write_text("a file, where a folder should be")
    at.button(key="train-start").click()
    ran(at.run())
    assert "cannot be made" in texts(at)


def test_the_estimate_comes_from_the_loaded_model(runs, foxes):
    at = given(foxes)
    at.number_input(key="train-new-tokens").set_value(8)
    ran(at.run())
    at.button(key="train-estimate").click()
    ran(at.run())
    until(lambda: "of memory for the fit" in texts(ran(at.run())))
    assert "About 12 examples" in texts(at)


def test_the_estimate_of_another_model_comes_with_the_run(runs, foxes):
    at = given(foxes)
    at.text_input(key="train-model").set_value("another/model")
    ran(at.run())
    at.button(key="train-estimate").click()
    ran(at.run())
    assert "another one is loaded here" in texts(at)
