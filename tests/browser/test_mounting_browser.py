"""A component that Streamlit calls again while its script is still on the way: a race, run here in its one order."""

from __future__ import annotations

import re

import pytest

from at2_core import exploration as explorations
from pages.ui.compare_view import SCRIPT, Column, _payload
from pages.ui.component import ASSETS

# Streamlit 1.67: a call whose data were replaced before the script was there is made all the same, in whichever order Chromium
# tells those who wait for a script, and ended at once.
ORDER = """async ({ script, calls }) => {
  const { default: component } = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  const parentElement = document.createElement("div"), told = { setStateValue() {}, setTriggerValue() {} };
  const turn = () => new Promise((done) => setTimeout(done, 50));
  document.body.append(parentElement);
  const shown = () => [parentElement.childElementCount, [...parentElement.querySelectorAll(".cost")].map((e) => e.textContent)];
  const seen = [];
  let end;
  for (const { data, replaced } of calls) {
    const ended = component({ data, parentElement, ...told });
    if (replaced) Promise.resolve(ended).then((e) => e());
    else end = ended;
    if (replaced === false) { await turn(); seen.push(shown()); }
  }
  await turn();
  seen.push(shown());
  end();
  await turn();
  return [...seen, shown()];
}"""


@pytest.fixture
def page(chromium):
    page = chromium.new_page()
    yield page
    page.close()


@pytest.fixture
def data():
    exploration = explorations.load_example("bees")
    scores = exploration.scores["at2"][:, : len(exploration.sources["sentence"])]

    def of(cost: str) -> dict:
        columns = [Column(key, key, "", cost, scores) for key in ("at2", "average")]
        return _payload(exploration, "sentence", columns) | {"initial": {}}

    return of


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)])
def test_calls_that_came_too_late_leave_what_the_last_one_shows(page, data, order):
    calls = [{"data": data("0.03 s" if last else ""), "replaced": not last} for last in order]
    seen = page.evaluate(ORDER, {"script": SCRIPT, "calls": calls})
    assert seen[-2:] == [[1, ["0.03 s", "0.03 s"]], [0, []]]


def test_new_data_of_a_shown_element_are_shown_and_ended_with_it(page, data):
    calls = [{"data": data(cost), "replaced": False} for cost in ("", "1 s", "2 s")]
    seen = page.evaluate(ORDER, {"script": SCRIPT, "calls": calls})
    assert seen == [[1, ["", ""]], [1, ["1 s", "1 s"]], [1, ["2 s", "2 s"]], [1, ["2 s", "2 s"]], [0, []]]


def test_every_component_is_mounted_in_that_way():
    exported = {
        path.name: re.search(r"^export default function \w+\(.*$", path.read_text(encoding="utf-8"), re.M)
        for path in ASSETS.glob("*.js")
    }
    ways = {name: found[0].split("(", 1)[1] for name, found in exported.items() if found}
    assert len(ways) == 6
    assert set(ways.values()) == {"mount) { return mounted(View, mount); }"}
