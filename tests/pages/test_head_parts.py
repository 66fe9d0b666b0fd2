"""The parts of the Heads page by themselves: its state in the address, its figure, and ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pages.ui import head_state
from pages.ui.head_grid import head_figure, ranks
from pages.ui.head_mute import change, rank_correlation, source_scores
from pages.ui.head_overview import layers_in_words
from pages.ui.head_reading import short
from tests.pages.driving import THETA

typed = some.text(alphabet="0123456789.,-x٣ ", max_size=12)


@given(some.fixed_dictionaries({}, optional=dict.fromkeys(head_state.KEYS, typed)))
def test_any_address_gives_a_state_that_its_own_address_gives_again(params):
    def read(address):
        return head_state.read(address, (30, 9), (3, 4), num_tokens=20, num_sources=5)

    state = read(params)
    assert 1 <= len(state.picks) <= head_state.MAX_COMPARED
    assert all(0 <= layer < 30 and 0 <= head < 9 for layer, head in state.picks + state.mute)
    assert read(head_state.write(state, (3, 4))) == state


def test_points_of_the_figure_are_the_heads_in_reading_order():
    figure = head_figure(THETA, "coefficient", ((0, 2),), ((1, 1),))
    points = list(zip(figure.data[1].x, figure.data[1].y, strict=True))
    assert points == [divmod(i, 4) for i in range(8)]
    assert "+0.4<br>rank 1 of 8" in figure.data[1].customdata[5]
    assert [(t.x, t.y) for t in figure.data[2:] if t.x] == [((1,), (1,))]


def test_equal_heads_are_drawn_without_dividing_by_zero():
    assert head_figure(np.zeros((2, 4), np.float32), "coefficient", (), ()).data[0].zmax == 1.0


def test_a_text_on_one_line_keeps_its_direction_and_its_length():
    assert short("one \u202etwo\n three") == "one two three"
    assert len(short("word " * 40, 24)) <= 24


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0, 1, 2), ""),
        ((), ""),
        ((3, 7), " 0 to 1 are the model's layers 3, 7."),
        ((1,), " 0 to 0 are the model's layers 1."),
    ],
)
def test_layers_without_heads_are_named(tiny_lm, numbers, said):
    lm = replace(tiny_lm, layer_numbers=numbers)
    assert layers_in_words(lm, lm.name) == (said and f" Only layers with heads are shown:{said}")
    assert layers_in_words(lm, "another model") == layers_in_words(None, lm.name) == ""


def test_ranks_go_by_size_not_by_sign():
    assert ranks(THETA).tolist() == [[6, 2, 7, 4], [8, 1, 5, 3]]


def test_rank_correlation_by_counting_pairs_of_ranks():
    a, b = np.array([3.0, 1.0, 2.0, 5.0]), np.array([30.0, 10.0, 20.0, 50.0])
    assert rank_correlation(a, b) == pytest.approx(1)
    assert rank_correlation(a, -b) == pytest.approx(-1)
    # Without ties: 1 - 6 * sum of squared rank differences / (n * (n * n - 1)).
    c = np.array([1.0, 3.0, 2.0, 4.0])
    assert rank_correlation(a, c) == pytest.approx(1 - 6 * (2**2 + 2**2) / (4 * 15))
    assert rank_correlation(a, np.ones(4)) is None
    assert rank_correlation(a[:2], b[:2]) is None


def test_source_scores_are_means_over_the_span_and_sums_over_tokens(exploration):
    sources = exploration.sources["sentence"]
    scores = source_scores(exploration.scores["at2"], sources, np.array([1, 2, 3]))
    s = sources[2]
    by_hand = exploration.scores["at2"][1:4, s.token_start : s.token_end].mean(axis=0).sum()
    assert scores[2] == pytest.approx(by_hand, rel=1e-5)
    assert change(scores, scores).top_before == change(scores, scores).top_after
    assert change(scores[:0], scores[:0]) is None
