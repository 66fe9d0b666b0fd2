"""The Evaluate page: judge methods and estimators, watch the evaluations on this machine, look into any example."""

from __future__ import annotations

from pages.ui import frame

frame.require()

from pages.ui.evaluate_form import new_evaluation  # noqa: E402 (the frame's guard comes first)
from pages.ui.evaluate_run import show  # noqa: E402
from pages.ui.evaluate_runs import EVALUATIONS  # noqa: E402
from pages.ui.runs_page import runs_page  # noqa: E402

frame.style("train.css")
frame.style("evaluate.css")
runs_page(EVALUATIONS, "How true are the scores? Measure it.", 4.2, show, new_evaluation)
