"""What surrounds every page: the window's title, the navigation, the few styles of our own."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.ui import history

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def pages() -> list:
    return [
        st.Page("pages/explore.py", title="Explore", icon=":material/format_ink_highlighter:", default=True),
        st.Page("pages/heads.py", title="Heads", icon=":material/grid_on:"),
        st.Page("pages/compare.py", title="Compare", icon=":material/compare:"),
        st.Page("pages/evaluate.py", title="Evaluate", icon=":material/fact_check:"),
        st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
        st.Page("pages/estimators.py", title="Estimators", icon=":material/tune:"),
    ]


def run() -> None:
    """Draw the frame and the page that the address names. The last line of app.py."""
    _name_window()
    st.logo(str(ASSETS / "logo.svg"), size="medium")
    style("frame.css")
    page = st.navigation(pages(), position="top")
    st.session_state["framed"] = True
    history.follow(page.url_path)
    page.run()


def require() -> None:
    """The first line of every page: a deep link that is a fresh server's first request runs the page without app.py."""
    if not st.session_state.get("framed"):
        _name_window()
        st.navigation(pages(), position="top")
        st.rerun()


def _name_window() -> None:
    """Before any st.navigation: a window without an icon of ours takes the page's, which the browser fetches from afar."""
    st.set_page_config("AT2 Explorer", page_icon=str(ASSETS / "icon.svg"), layout="wide")


def style(name: str) -> None:
    """A stylesheet of assets/. The one place for raw HTML: no text of a person or a model ever goes this way."""
    st.html(f"<style>{(ASSETS / name).read_text(encoding='utf-8')}</style>")


def complain(sentence: str, key: str) -> None:
    """An error as text: it may quote what a person typed or a file is called, which must not become Markdown."""
    with st.container(key=f"complaint-{key}"):
        st.text(sentence)


def remark(sentence: str, key: str) -> None:
    """A quiet sentence, as text for the same reason."""
    with st.container(key=f"remark-{key}"):
        st.text(sentence)
