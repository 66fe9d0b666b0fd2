"""The figures of an evaluation say what the engine says, and no more than the examples bear."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from at2_core.evaluation_runs import SHOWN, read_rows
from at2_core.measures import summarize
from at2_core.runs import RunFolder
from pages.ui import evaluate_charts, evaluate_export, evaluate_figures, evaluate_methods, evaluate_table
from pages.ui.draft import UPLOAD
from tests.pages.driving import METHODS, copied, opened, ran, texts


def test_the_table_says_what_the_summary_says(evaluations, judged):
    run = copied(judged, evaluations)
    summary = summarize(read_rows(judged), "average")
    at = opened("evaluate", evaluation=run.name)
    shown = at.dataframe[0].value.set_index("method")
    for method in METHODS:
        own = summary[(summary["method"] == method) & (summary["measure"] == "lds")].iloc[0]
        cell = f"{own['mean']:.2f} ({own['low']:.2f} to {own['high']:.2f})".replace("-", "−")
        assert shown.loc[evaluate_methods.label(method), "lds"] == cell
    assert shown.loc["ContextCite 8", "passes"] == 8
    assert "What removing sources does to the response: 6 examples." in texts(at)
    assert "1 example skipped: 1 × no response, or a single source" in texts(at)
    assert len(at.get("plotly_chart")) == 2


def test_rows_without_any_measure_are_one_sentence(evaluations, judged):
    run = copied(judged, evaluations)
    for path in run.folder.glob("rows/*.json"):
        sheet = json.loads(path.read_text())
        for row in sheet["rows"].values():
            for name in [n for n in row if n not in ("sources", "tokens", "prompt", "passes", "seconds")]:
                row.pop(name)
        path.write_text(json.dumps(sheet))
    assert "There is nothing to show" in texts(opened("evaluate", evaluation=run.name))
    assert evaluate_export.summary_markdown(run) == ""


def test_only_what_was_asked_for_last_is_shown(evaluations, judged):
    run = copied(judged, evaluations)
    before = evaluate_figures.stamp(run)
    assert evaluate_methods.label("random") in set(
        opened("evaluate", evaluation=run.name).dataframe[0].value["method"]
    )
    shown = run.read(SHOWN)
    run.write(SHOWN, shown | {"methods": ["average", "bm25"], "sheets": shown["sheets"][:3]})
    assert evaluate_figures.stamp(run) != before
    at = opened("evaluate", evaluation=run.name)
    assert set(at.dataframe[0].value["method"]) == {"Average attention", "BM25"}
    assert "3 examples" in texts(at)
    (run.folder / SHOWN).unlink()
    assert not opened("evaluate", evaluation=run.name).dataframe


def test_known_truth_stands_apart_by_answer(evaluations, judged):
    run = copied(judged, evaluations)
    at = opened("evaluate", evaluation=run.name)
    at.segmented_control(key="evaluate-judged-by").set_value("supported")
    ran(at.run())
    assert "Known truth, where the response gives the answer that it supports: 3 examples." in texts(at)
    summary = summarize(read_rows(judged), "average")
    own = summary[
        (summary["measure"] == "mrr") & (summary["answer"] == "supported") & (summary["method"] == "bm25")
    ].iloc[0]
    assert at.dataframe[0].value.set_index("method").loc["BM25", "mrr"].startswith(f"{own['mean']:.2f} (")


def test_the_form_begins_afresh_after_figures_were_looked_at(evaluations, judged):
    run = copied(judged, evaluations)
    at = opened("evaluate", evaluation=run.name)
    at.button(key="train-new").click()
    ran(at.run())
    assert at.segmented_control(key="evaluate-kind").value == UPLOAD
    assert at.number_input(key="evaluate-ablations").value == 32


def test_differences_are_paired_and_to_the_method_that_was_chosen(evaluations, judged):
    run = copied(judged, evaluations)
    at = opened("evaluate", evaluation=run.name)
    at.segmented_control(key="evaluate-shown").set_value("Differences")
    ran(at.run())
    at.selectbox(key="evaluate-reference").set_value("random")
    ran(at.run())
    own = summarize(read_rows(judged), "random")
    own = own[(own["method"] == "bm25") & (own["measure"] == "lds")].iloc[0]
    table = at.dataframe[0].value.set_index("method")
    assert table.loc["BM25", "lds"].startswith(f"{own['difference_mean']:+.2f} (".replace("-", "−"))
    assert table.loc["Random", "lds"] == "reference"


@pytest.mark.parametrize(("examples", "expected"), [(5, {(1, 1)}), (4, set())])
def test_the_best_of_a_column_is_marked_and_a_tie_of_all_or_of_few_is_not(examples, expected):
    rows = [("a", 0.5, 1.0), ("b", 0.7, 1.0)]
    part = pd.DataFrame(
        [{"measure": m, "answer": "", "method": name, "examples": examples, "mean": mean, "low": mean, "high": mean,
          "passes": 0, "seconds": 0.0} for name, *means in rows for m, mean in zip(("lds", "mrr"), means, strict=True)]
    )  # fmt: skip
    html = evaluate_table.marked(evaluate_table.cells(part, None), part, None)
    html._compute()
    marked = {place for place, style in html.ctx.items() if style}
    assert marked == expected, "row b, column lds"


def test_one_example_has_no_interval_and_no_mark(judged):
    rows = read_rows(judged).dropna(subset=["method"])
    one = summarize(rows[rows["example"] == "town-2"], "average")
    part = one[one["answer"] == ""]
    for reference in (None, "average"):
        cells = evaluate_table.cells(part, reference)
        said = cells.set_index("method").loc["BM25", "drop_1"]
        assert said.endswith(" (one example)"), said
        html = evaluate_table.marked(cells, part, reference)
        html._compute()
        assert not any(html.ctx.values())
    for figure in (evaluate_charts.by_method(one, "drop_1", ""), evaluate_charts.by_cost(one, "drop_1", "")):
        assert not any(trace.error_x.visible or trace.error_y.visible for trace in figure.data)
        assert np.isfinite([*figure.layout.yaxis.range]).all()
        assert "nan" not in figure.to_json()


def test_pictures_show_means_intervals_and_costs(judged):
    summary = summarize(read_rows(judged))
    own = summary[(summary["measure"] == "lds")].set_index("method")
    figure = evaluate_charts.by_method(summary, "lds", "")
    assert sorted(trace.x[0] for trace in figure.data) == sorted(own["mean"])
    first = figure.data[0]
    assert first.x[0] + first.error_x.array[0] == pytest.approx(own["high"][own["mean"].idxmin()])
    cost = evaluate_charts.by_cost(summary, "lds", "")
    assert {a.text for a in cost.layout.annotations} == {evaluate_methods.label(m) for m in METHODS}
    places = {trace.x[0] for trace in cost.data if "8 passes" in trace.hovertemplate}
    assert min(places) > 2 * max(trace.x[0] for trace in cost.data if "0 passes" in trace.hovertemplate)


def test_names_at_one_place_are_moved_apart():
    shifts = evaluate_charts.apart([0, 0, 0, 5], [10, 12, 13, 12], [True] * 4)
    moved = sorted(h + s for h, s in zip([10, 12, 13], shifts[:3], strict=True))
    assert np.diff(moved).min() > evaluate_charts.LINE - 0.5
    assert shifts[3] == 0
    assert evaluate_charts.apart([5, 5], [10, 12], [False] * 2) == [0, evaluate_charts.LINE - 2]
    assert evaluate_charts.clustered([0.0, 1.0, 5.0, 5.5, 6.5], 1.0) == [0.0, 1.0, 5.0, 5.0, 6.5]


def test_a_name_in_a_picture_is_text():
    named = evaluate_charts._named("at2 <a href='http://evil'>")
    assert "<" not in named


def test_nothing_is_summarised_again_while_no_row_is_added(evaluations, judged, monkeypatch):
    run = copied(judged, evaluations)
    opened("evaluate", evaluation=run.name)
    monkeypatch.setattr(evaluate_figures, "summarize", lambda *_: pytest.fail("summarised again"))
    monkeypatch.setattr(evaluate_figures, "read_rows", lambda *_: pytest.fail("read again"))
    opened("evaluate", evaluation=run.name)


def test_while_it_works_a_large_table_is_not_worked_out_for_every_row(monkeypatch, tmp_path):
    state, clock, rows = {}, [100.0], [(500, 1)]
    monkeypatch.setattr(evaluate_figures.st, "session_state", state)
    monkeypatch.setattr(evaluate_figures.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(evaluate_figures, "stamp", lambda run: rows[0])
    run = RunFolder(tmp_path / "r")
    assert evaluate_figures.unhurried(run, True) == (500, 1)
    rows[0], clock[0] = (501, 2), 104.0
    assert evaluate_figures.unhurried(run, True) == (500, 1), "the next after 5 seconds"
    assert evaluate_figures.unhurried(run, False) == (501, 2), "at the end at once"
    rows[0], clock[0] = (502, 3), 110.0
    assert evaluate_figures.unhurried(run, True) == (502, 3)


def test_files_hold_what_the_page_shows(evaluations, judged):
    run = copied(judged, evaluations)
    rows = list(csv.DictReader(io.StringIO(evaluate_export.rows_csv(run).removeprefix("\ufeff"))))
    assert len(rows) == 6 * len(METHODS)
    summary = list(csv.DictReader(io.StringIO(evaluate_export.summary_csv(run).removeprefix("\ufeff"))))
    assert {row["method"] for row in summary} == set(METHODS)
    assert "| method | LDS |" in evaluate_export.summary_markdown(run)
    assert evaluate_export._cell("=1+1") == "'=1+1"
    assert evaluate_export._cell(-1.5) == -1.5
