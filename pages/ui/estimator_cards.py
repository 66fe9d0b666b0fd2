"""One estimator as a card: what it is, how good, whether it fits, and what can be done with it.

Names, data and licences come out of files that anybody may have written: all of it is drawn as text.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

import streamlit as st

from at2_core.card import data_of, plain, quality
from at2_core.catalogue import Entry, export_to_hub_folder, remove_estimator, slug
from at2_core.errors import At2Error
from pages.ui import estimator_choice, frame, session
from pages.ui.estimator_shortfall import misfit

KINDS = {
    "bundled": ("comes with the app", "gray"),
    "own": ("learned here", "blue"),
    "imported": ("imported", "violet"),
}
COMPLAINT = "estimators-complaint"


def estimator_card(entry: Entry, in_use: str) -> None:
    """Draw the card of a readable file, or say what is wrong with a damaged one. in_use: a fingerprint, or ""."""
    key = hashlib.sha1(str(entry.path).encode(), usedforsecurity=False).hexdigest()[:8]
    with st.container(border=True, gap="xsmall", key=f"estimator-card-{key}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                with st.container(key=f"estimator-name-{key}", width="content"):
                    st.text(entry.name, width="content")
                label, colour = KINDS[entry.kind]
                st.badge(label, color=colour)
                if entry.fingerprint and entry.fingerprint == in_use:
                    st.badge("in use", icon=":material/check:", color="green")
            if entry.estimator is not None:
                _use(entry, key)
                _save(entry, key)
            if entry.kind != "bundled":
                _remove(entry, key)
        if entry.estimator is None:
            frame.complain(entry.problem, f"estimator-{key}")
        else:
            with st.container(key=f"estimator-facts-{key}"):
                st.text("\n".join(facts(entry)))
        if st.session_state.get(COMPLAINT, ("", ""))[0] == key:
            frame.complain(st.session_state.pop(COMPLAINT)[1], f"estimator-action-{key}")


def facts(entry: Entry) -> list[str]:
    """Lines of plain text: the model and θ, how good it is, the data and its licence."""
    assert entry.estimator is not None
    estimator, (layers, heads) = entry.estimator, entry.shape
    spread = ", with their deviations" if estimator.deviation is not None else ""
    data, licence = data_of(estimator)
    return [
        f"For {entry.model}{_fit(entry)}",
        f"θ: {layers} layers × {heads} heads = {layers * heads:,} coefficients{spread} · fingerprint {entry.fingerprint}",
        quality(estimator),
        f"Data: {data or 'not told'} · licence: {licence or 'not told'}",
    ]


def _fit(entry: Entry) -> str:
    """Whether it can be used with the loaded model, and why not; "" while no model is loaded."""
    lm = session.engine().lm
    if lm is None:
        return ""
    if not misfit(entry):
        return f" · fits {lm.name}"
    if entry.shape != (lm.num_layers, lm.num_heads):
        return f" · does not fit {lm.name}, which has {lm.num_layers} layers of {lm.num_heads} heads"
    return f" · does not fit {lm.name}: it was learned for other weights"


def fingerprint_in_use() -> str:
    """The fingerprint of the estimator that Explore and Heads use now, or "" where it is average attention."""
    chosen = estimator_choice.choice().chosen or estimator_choice.usual()
    return chosen.fingerprint if chosen is not None else ""


def _use(entry: Entry, key: str) -> None:
    if st.button(
        "Use in Explore", icon=":material/format_ink_highlighter:", key=f"estimator-use-{key}",
        disabled=bool(misfit(entry)),
        help="Explore and Heads weigh the heads by this θ in this browser window; Explore can compare it with the former one.",
    ):  # fmt: skip
        try:
            estimator_choice.use_estimator(entry.path)
        except At2Error as error:
            st.session_state[COMPLAINT] = (key, str(error))
        else:
            st.switch_page("pages/explore.py")


def _save(entry: Entry, key: str) -> None:
    with st.popover("Save", icon=":material/download:"):
        name = slug(entry.name)
        st.download_button(
            "The estimator (.safetensors)", data=entry.path.read_bytes, key=f"estimator-file-{key}",
            file_name=f"{name}.safetensors", mime="application/octet-stream", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "Folder for the hub, with a model card (.zip)", data=lambda: hub_zip(entry), key=f"estimator-zip-{key}",
            file_name=f"{name}.zip", mime="application/zip", on_click="ignore",
        )  # fmt: skip


def hub_zip(entry: Entry) -> bytes:
    """The folder of `export_to_hub_folder` as a zip archive."""
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(out, "w") as archive:
        assert entry.estimator is not None
        for file in sorted(export_to_hub_folder(entry.estimator, Path(temporary) / "folder").iterdir()):
            archive.write(file, f"{slug(entry.name)}/{file.name}")
    return out.getvalue()


def _remove(entry: Entry, key: str) -> None:
    with st.popover("Remove", icon=":material/delete:"):
        st.text(f"Delete {plain(entry.path.name, 80)} from this computer?")
        st.button(
            "Delete it", type="primary", key=f"estimator-remove-{key}", on_click=_delete, args=(entry, key)
        )


def _delete(entry: Entry, key: str) -> None:
    used = entry.fingerprint == fingerprint_in_use()
    try:
        remove_estimator(entry)
    except At2Error as error:
        st.session_state[COMPLAINT] = (key, str(error))
    else:
        estimator_choice.forget(entry.fingerprint)
        if used:
            st.toast(
                "It was in use in this window; Explore and Heads weigh the heads by the model's usual θ again."
            )
