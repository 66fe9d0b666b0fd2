"""The examples of an evaluation: what each method's scores were worth on them, and the way to any of them in Explore."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from at2_core.card import plain
from at2_core.data import Example
from at2_core.errors import At2Error
from at2_core.evaluation_runs import SHOWN, EvaluationRequest
from at2_core.measures import measures_of
from at2_core.prompts import without_surrogates
from at2_core.report import title
from at2_core.runs import RunFolder
from pages.ui import frame, session
from pages.ui.evaluate_figures import rows_of, unhurried
from pages.ui.evaluate_methods import short
from pages.ui.evaluate_runs import EVALUATIONS, is_loaded_here
from pages.ui.jobs import Run, Settings
from pages.ui.model_engine import shown
from pages.ui.model_status import waiting_for_model
from pages.ui.train_reading import look, read_as

OPENING = "evaluate-opening"  # name of the evaluation and key of the example that waits for the model
GONE = "The example is not in {data} any more; the file was changed or moved since."


def examples_table(run: RunFolder, request: EvaluationRequest, working: bool) -> None:
    """Draw them; what is chosen stays chosen while rows are added."""
    rows = rows_of(str(run.folder), unhurried(run, working))
    measures = [m for m in measures_of(rows) if rows[m].notna().any()] if len(rows) else []
    if not measures:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-evaluate-examples"):
        st.markdown("#### Examples", width="content")
        if st.session_state.get("evaluate-example-measure") not in measures:
            st.session_state["evaluate-example-measure"] = measures[0]
        measure = st.selectbox("Measure of the examples", measures, key="evaluate-example-measure", format_func=title,
                               label_visibility="collapsed", width=200)  # fmt: skip
    table = by_example(rows, measure)
    chosen_in = f"evaluate-chosen-{run.name}"
    widget = f"evaluate-examples-{run.name}-{measure}"
    config: dict[str, Any] = {
        "key": None,
        "example": st.column_config.TextColumn("Example", pinned=True, width=170),
        "tokens": st.column_config.NumberColumn("Response tokens", width=110),
        "sources": st.column_config.NumberColumn("Sources", width=70),
        "supported": st.column_config.TextColumn("True answer", width=90, help="Whether the response gives the answer that "
                                                 "the truth supports."),
        **{m: st.column_config.NumberColumn(short(m, 22), format="%.2f") for m in rows["method"].unique()},
    }  # fmt: skip
    keys = list(table["key"])

    def pick() -> None:
        picked = st.session_state[widget].selection.rows
        st.session_state[chosen_in] = keys[picked[0]] if picked and picked[0] < len(keys) else None

    st.dataframe(
        table, hide_index=True, column_config={name: c for name, c in config.items() if name in table}, key=widget,
        on_select=pick, selection_mode="single-row", height=35 * min(8, len(table)) + 38,
    )  # fmt: skip
    _open(run, request, table, st.session_state.get(chosen_in))


def by_example(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A row an example: key, example, tokens, sources, whether the answer is the true one, and the measure by each method."""
    first = rows.drop_duplicates("example").set_index("example")
    about = first[[c for c in ("key", "tokens", "sources", "supported") if c in first]]
    if "supported" in about and about["supported"].isna().all():
        about = about.drop(columns="supported")
    if "supported" in about:
        said = about["supported"].map({True: "yes", False: "no"})
        about = about.assign(supported=said.fillna("not known"))
    values = rows.pivot(index="example", columns="method", values=measure).astype(float)
    table = about.join(values[list(dict.fromkeys(rows["method"]))]).reset_index()
    table["example"] = table["example"].map(lambda name: without_surrogates(str(name)))
    return table[["key", *(c for c in table if c != "key")]]


def _open(run: RunFolder, request: EvaluationRequest, table: pd.DataFrame, key: str | None) -> None:
    """The button, and what comes between it and Explore."""
    name = next(iter(table.loc[table["key"] == key, "example"]), None)
    elsewhere = not is_loaded_here(request.model)
    # A button is forgotten when its page is left; so is what was wished there.
    if "evaluate-open" not in st.session_state:
        st.session_state.pop(OPENING, None)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        pressed = st.button("Open in Explore", icon=":material/format_ink_highlighter:", key="evaluate-open",
                            disabled=name is None or elsewhere)  # fmt: skip
        with st.container(key="quiet-evaluate-chosen", width="content"):
            if elsewhere:
                st.text(
                    f"These responses are those of {shown(request.model)}; {shown(session.model())} is loaded here.",
                    width="content",
                )
            else:
                st.text(
                    f"Example {name}" if name else "Choose an example by the box at its left.",
                    width="content",
                )
    engine = session.engine()
    if pressed and key is not None and not elsewhere:
        st.session_state[OPENING] = (run.name, key)
        engine.start(again=True)
    if st.session_state.get(OPENING) != (run.name, key) or elsewhere:
        st.session_state.pop(OPENING, None)  # another one was chosen since, or another model loaded
        return
    if engine.status != "ready":
        waiting_for_model(engine, "The example opens when the model is there.", "evaluate-open")
        return
    st.session_state.pop(OPENING)
    try:
        started = explore(run, request, str(key))
    except At2Error as error:
        frame.complain(str(error), "evaluate-open")
    else:
        st.session_state["own_run"] = started.id
        session.look_at("run", started.id, keep=(EVALUATIONS.address,))
        st.switch_page("pages/explore.py", query_params={"run": started.id})


def explore(run: RunFolder, request: EvaluationRequest, key: str) -> Run:
    """The very response that was judged, as a run that Explore shows. Raises At2Error where the example is gone."""
    example = find_example(request, key)
    return session.runs().start(session.engine(), example.task, settings_of(run, request, example))


def find_example(request: EvaluationRequest, key: str) -> Example:
    """The example of the data with this key. Raises At2Error, also where the data cannot be read."""
    found = look(request.data)
    read = read_as(request.data, found.stamp, tuple(sorted(request.columns.items())))
    example = next((e for e in read.examples if e.key == key), None)
    if example is None:
        raise At2Error(GONE.format(data=Path(request.data).name))
    return example


def settings_of(run: RunFolder, request: EvaluationRequest, example: Example) -> Settings:
    """What gives exactly the tokens that were judged: the given response, or the kept ids of the model's own, or else that
    response once more, which without sampling is the same."""
    origin = f"From the evaluation {run.name}, example {without_surrogates(plain(example.id, 80))}."
    if example.response is not None:
        return Settings(request.max_new_tokens, response=example.response, origin=origin)
    ids = tuple(response_ids(run, example.key) or ())
    return Settings(request.max_new_tokens, response_ids=ids, origin=origin)


def response_ids(run: RunFolder, key: str) -> list[int] | None:
    """The ids that are kept with the example's ablations; None where there are none."""
    sheets = (run.read(SHOWN) or {}).get("sheets", [])
    for name in (Path(sheet).stem for sheet in sheets if Path(sheet).name.startswith(f"{key}-")):
        try:
            with np.load(run.folder / "ablations" / f"{name}.npz", allow_pickle=False) as arrays:
                return [int(i) for i in arrays["response_ids"]]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # damaged, or being replaced
            continue
    return None
