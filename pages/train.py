"""The Train page: learn theta for a model from examples, watch the runs on this machine, and judge what came out."""

from __future__ import annotations

from pages.ui import frame

frame.require()

from pages.ui.runs_page import runs_page  # noqa: E402 (the frame's guard comes first)
from pages.ui.train_form import new_run  # noqa: E402
from pages.ui.train_run import show  # noqa: E402
from pages.ui.train_runs import RUNS  # noqa: E402

frame.style("train.css")
runs_page(RUNS, "Which heads count? Learn it from examples.", 3.6, show, new_run)
