"""A source from a document with pages says its page wherever it is named."""

from __future__ import annotations

from dataclasses import replace

import at2_core as at2
from pages.ui.head_reading import source_name
from pages.ui.verify_jobs import Subject
from pages.ui.verify_picture import _name


def test_heads_and_verify_name_the_page(exploration, tiny_lm):
    first = "The dog sleeps. "
    task = replace(
        exploration.task,
        documents=(
            at2.Document("Harbour", first + "The fox runs.", ((0, 1), (len(first), 2))),
            at2.Document("Town", "Paris is far."),
        ),
    )
    made = at2.explore(tiny_lm, at2.replay(tiny_lm, task, "It sleeps."), None)
    names = [source_name(made, s) for s in range(3)]
    assert [", p. 1: " in names[0], ", p. 2: " in names[1], "p. " in names[2]] == [True, True, False]
    assert _name(made, Subject(made.id, ((0, 2),), "sentence", "average"), 1).endswith(", p. 2")
