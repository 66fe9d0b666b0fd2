"""Ways in: upload an estimator's file, or fetch one from the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

import streamlit as st

from at2_core.catalogue import Entry, add_estimator, list_estimators
from at2_core.errors import At2Error
from at2_core.reference import NAMELESS
from at2_core.torch_archive import MAX_BYTES
from pages.ui import frame, session
from pages.ui.estimator_shortfall import learn_command, page_link

SAID = "estimators-said"  # (whether it went well, a sentence), shown once
UPLOADS = "estimators-uploads"  # counts imports, so that the fields empty themselves


def import_panel() -> None:
    """The panel; what came of the last import is said in it."""
    with st.container(border=True, gap="small", key="estimator-import"):
        st.markdown("#### Import one")
        number = st.session_state.setdefault(UPLOADS, 0)
        upload = st.file_uploader(
            "An estimator's .safetensors, or the score_estimator.pt of the published AT2 code",
            type=["safetensors", "pt"],
            key=f"estimators-upload-{number}",
            max_upload_size=MAX_BYTES // 1_000_000,
        )
        hub_id = st.text_input(
            "Or a repository of the Hugging Face hub",
            key=f"estimators-hub-{number}",
            placeholder="owner/name",
        )
        with st.expander("Name and model"):
            name = st.text_input("Name", key=f"estimators-name-{number}", placeholder="as the file says")
            model = st.text_input(
                "Model", key=f"estimators-model-{number}", placeholder=session.model(),
                help="For a score_estimator.pt, which does not tell; left empty, the loaded model where the shape fits.",
            )  # fmt: skip
        if st.button("Import", type="primary", icon=":material/file_open:", key="estimators-import"):
            with st.spinner("Reading the estimator…"):
                _import(upload, hub_id.strip(), name.strip(), model.strip())
            st.rerun()
        went_well, sentence = st.session_state.pop(SAID, (True, ""))
        if sentence:
            (frame.remark if went_well else frame.complain)(sentence, "estimators-import")
    with st.container(key="quiet-estimators"):
        st.text(
            "An estimator belongs to one model: θ holds one coefficient per attention head of it. Files are read "
            "without running anything in them; the hub is asked only when you import from it."
        )
        page_link("pages/train.py", "Learn one from your own examples", ":material/model_training:")
        st.text(f"or in a shell:\n{learn_command()}\npython -m at2_core estimators --help")


def _import(upload, hub_id: str, name: str, model: str) -> None:
    """Keep what was given; what came of it goes to the session, for the run after this one."""
    before = {entry.path for entry in list_estimators()}
    try:
        if upload is not None:
            entry = import_upload(upload.name, upload.getvalue(), name, model)
        elif hub_id:
            entry = _added(hub_id, name, model)
        else:
            st.session_state[SAID] = (False, "Choose a file first, or type the name of a repository.")
            return
    except At2Error as error:
        st.session_state[SAID] = (False, str(error))
        return
    layers, heads = entry.shape
    said = "You already have" if entry.path in before else "Imported"
    st.session_state[SAID] = (True, f"{said} {entry.name}: {layers} layers of {heads} heads.")
    st.session_state[UPLOADS] += 1


def import_upload(file_name: str, content: bytes, name: str = "", model: str = "") -> Entry:
    """The entry of an uploaded file. Raises At2Error, with the file's own name in the sentence."""
    suffix = ".safetensors" if file_name.lower().endswith(".safetensors") else ".pt"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        stem = file_name.rsplit("/", 1)[-1].removesuffix(".pt")
        try:
            return _added(path, name or (stem if suffix == ".pt" else ""), model)
        except At2Error as error:
            raise type(error)(str(error).replace(path.name, file_name)) from error


def _added(source: str | Path, name: str, model: str) -> Entry:
    """The entry; a file that names no model is taken for the loaded one's, where the shape is the same."""
    entry, lm = add_estimator(source, name=name, model=model), session.engine().lm
    if entry.model == NAMELESS and lm is not None and entry.shape == (lm.num_layers, lm.num_heads):
        entry = add_estimator(source, name=name, model=lm.name)
    return entry
