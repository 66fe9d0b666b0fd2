"""A new evaluation: its examples, methods and estimators, what will be run, what it would cost, and its start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.evaluation_runs import EvaluationRequest, ask
from at2_core.prompts import without_surrogates
from at2_core.sources import GRANULARITIES
from pages.ui import evaluate_runs, frame, session, train_runs
from pages.ui.evaluate_draft import FORM
from pages.ui.evaluate_estimate import ablations_of, estimate, sources_of
from pages.ui.evaluate_estimators import choose_estimators, possible, sort_estimators, to_request
from pages.ui.evaluate_methods import ABOUT, NAMES, OF_ESTIMATOR, OFFERED, label, top_k
from pages.ui.evaluate_runs import EVALUATIONS
from pages.ui.form_boxes import KEPT, examples_box, model_box, number_box, start_and_estimate
from pages.ui.model_engine import shown
from pages.ui.run_start import show_what_came_of_it, start
from pages.ui.train_data import choose_data
from pages.ui.train_reading import Found

PURPOSE = (
    "An evaluation measures how true scores are: it removes sources from example texts and compares what happens to the "
    "response with what each method predicted. Begin with a file of examples."
)
USUAL_EXAMPLES = 100
ELSEWHERE = "Minutes are known before the start for {model} alone, which is loaded here; the evaluation says how long it takes."
key, value, number = FORM.key, FORM.value, partial(number_box, FORM)


def new_evaluation(first: bool) -> None:
    """The form. first: nobody has evaluated here yet."""
    show_what_came_of_it(FORM, EVALUATIONS)
    draft = FORM.begin()
    if first:
        frame.remark(PURPOSE, "evaluate-purpose")
    left, right = st.columns([1, 1.05], gap="medium")
    with left, st.container(gap="small"):
        found = choose_data(FORM)
        usable = found.examples.examples if found and found.examples and not found.complaint else []
        true = sum(bool(example.truth) and example.answer is not None for example in usable)
        if true:
            frame.remark(f"{true:,} of them say which sentences support the answer: known truth is measured, too.",
                         "evaluate-truth")  # fmt: skip
        elif any(example.truth for example in usable):
            frame.remark("Known truth is measured where the answer that it supports is known; choose the column of the answer.",
                         "evaluate-truth")  # fmt: skip
    with right, st.container(gap="small"):
        request, rows, why_not = _asked(found, len(usable), true)
        said = st.container(gap="xsmall")
        clicked, pressed = start_and_estimate(
            FORM, bool(why_not), "Tries one example with the loaded model, to say how many minutes it takes."
        )
        if clicked and not why_not:
            FORM.keep()  # the address names the draft, by which the evaluation is found
            start(draft, request, str(value("name")) or Path(request.data).stem, ask, FORM, EVALUATIONS)
            st.rerun()
        complaint = st.session_state.pop("evaluate-complaint", "")
        if complaint:
            frame.complain(complaint, "evaluate-start")
        if why_not and found is not None:
            with said:
                frame.complain(why_not, "evaluate-why-not") if usable else st.caption(why_not)
        elif why_not:
            with said:
                st.caption(why_not)
        else:
            passes = _what_will_be_run(request, rows, found, said)
            if evaluate_runs.is_loaded_here(request.model):
                estimate(request, usable, found.stamp, passes, pressed=pressed)
            elif pressed:
                frame.remark(ELSEWHERE.format(model=shown(session.model())), "evaluate-estimate")
            others = evaluate_runs.at_work()
            if others:
                frame.remark(others, "evaluate-others")
    FORM.keep()


def _asked(found: Found | None, usable: int, true: int) -> tuple[EvaluationRequest, int, str]:
    """What the boxes say; how many rows an example gives; why it cannot be started, as a sentence, or ""."""
    model = model_box(FORM)
    boxes = st.columns(3, gap="small", vertical_alignment="bottom")
    with boxes[0]:
        examples = examples_box(FORM, found, usable, USUAL_EXAMPLES, help="The first so many.")
    with boxes[1]:
        ablations = number("Ablations", "ablations", help="Of each example: how often sources are removed by chance. "
                           "0 judges by known truth alone.")  # fmt: skip
    with boxes[2]:
        new_tokens = number("New tokens", "new-tokens", help="The model's response has at most so many.")
    granularity = st.segmented_control(
        "Sources", GRANULARITIES, key=key("granularity"), required=True, **KEPT
    )
    methods = _methods()
    found_estimators = sort_estimators(model)
    if evaluate_runs.is_loaded_here(model) and not found_estimators.known:
        session.engine().start()  # whose heads it has is not known otherwise
    estimators = choose_estimators(found_estimators, key("estimators"))
    with st.expander("More", key="evaluate-more"):  # what most people leave as it is
        left, middle, right = st.columns(3, gap="small", vertical_alignment="bottom")
        with left:
            min_sources = number("Fewest sources", "min-sources", help="Examples with fewer are left out.")
        with middle:
            prompt_tokens = number("Most prompt tokens", "prompt-tokens", help="Longer examples are left out. 0: as many as "
                                   "the model takes.")  # fmt: skip
        with right:
            seed = number("Seed", "seed", help="Of the ablations, and of methods with chance in them.")
        left, right = st.columns([1, 2], gap="small")
        with left:
            st.text_input("Top k", key=key("top-k"), max_chars=40, **KEPT,
                          help="How many of the highest-scored sources are removed together, with commas between. Empty: none, "
                               "which leaves the LDS.")  # fmt: skip
        with right:
            st.text_input("Name of the evaluation", key=key("name"), max_chars=80, **KEPT)
        learned = _not_learned_in()
    drops = top_k(str(value("top-k")))
    request = EvaluationRequest(
        evaluate_runs.located(model),
        found.source if found else "",
        dict(found.columns or {}) if found else {},
        examples=examples,
        min_sources=min_sources,
        max_prompt_tokens=prompt_tokens or None,
        methods=tuple(methods),
        estimators=to_request(found_estimators, estimators, any(m in OF_ESTIMATOR for m in methods)),
        not_learned_in=learned,
        granularity=granularity,
        ablations=ablations,
        top_k=drops or (),
        max_new_tokens=new_tokens,
        seed=seed,
    )
    rows = len(methods) + (max(1, len(estimators)) - 1) * ("at2" in methods)
    if not usable:
        why_not = "Give examples that can be used, then start."
    elif not model:
        why_not = "Name a model."
    elif not methods:
        why_not = "Choose one method or more."
    elif drops is None:
        why_not = "Top k is no list of different numbers from 1 on, as in 1, 3, 5; correct it under More."
    elif ablations == 1:
        why_not = "One ablation has no correlation; ask for 0, or for 4 and more."
    elif not ablations and not true:
        why_not = "Without ablations there is only known truth to judge by, and these examples have none; ask for ablations."
    else:
        why_not = possible(
            [NAMES[m] for m in methods], found_estimators, estimators, [NAMES[m] for m in OF_ESTIMATOR]
        )
    return request, rows, why_not


def _methods() -> list[str]:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.text("Methods", width="content")
        with st.popover("What each does", type="tertiary", key="evaluate-about-methods"):
            for method in OFFERED:
                with st.container(gap=None):
                    st.text(NAMES[method])
                    with st.container(key=f"quiet-evaluate-method-{method}"):
                        st.text(ABOUT[method])
    chosen = st.multiselect(
        "Methods", OFFERED, key=key("methods"), format_func=label, label_visibility="collapsed",
        placeholder="choose one or more", **KEPT,
    )  # fmt: skip
    return [method for method in OFFERED if method in chosen]


def _not_learned_in() -> tuple[str, ...]:
    """Training runs whose examples are left out: an estimator must not be judged by what it was learned from."""
    names = {str(run.folder): run.name for run in train_runs.runs()}
    st.session_state[key("not-learned-in")] = [f for f in value("not-learned-in") if f in names]
    if not names:
        return ()
    return tuple(st.multiselect(
        "Leave out what a training run learned from", list(names), key=key("not-learned-in"), format_func=names.__getitem__,
        placeholder="none", help="And all examples that share a context with it.", **KEPT,
    ))  # fmt: skip


def _what_will_be_run(request: EvaluationRequest, rows: int, found: Found, place: Any) -> float:
    """Say it; return how many ablations that is in all."""
    sources = _sources(found, request.granularity)
    judging, own = ablations_of(request, sources, rows)
    passes = request.examples * (judging + own)
    what = []
    if judging:
        what = [
            f"{request.ablations} at random",
            f"up to {judging - request.ablations} without the highest-scored",
        ]
    what += [f"about {own:,.0f} for the methods themselves"] if own else []
    name = train_runs.short_model(request.model)
    said = (
        f"{name} responds to {_count(request.examples, 'example')} of {without_surrogates(found.title)}, with about "
        f"{sources:,.0f} sources each; {_count(rows, 'method')} {'is' if rows == 1 else 'are'} judged by "
        + ("removing sources: " if judging else "known truth alone. ")
        + (
            f"about {passes:,.0f} ablations, of each example {', '.join(what)}."
            if what
            else "No source is removed."
        )
    )
    with place, st.container(key="evaluate-will-run"):
        st.text(said)
    return passes


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@st.cache_data(max_entries=32, show_spinner=False)
def _sources_of(source: str, stamp: tuple, columns: tuple, granularity: str, _examples: list) -> float:
    return sources_of(_examples, granularity)


def _sources(found: Found, granularity: str) -> float:
    assert found.examples is not None
    columns = tuple(sorted((found.columns or {}).items()))
    return _sources_of(found.source, found.stamp, columns, granularity, found.examples.examples)
