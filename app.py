"""AT2 Explorer: see which parts of its prompt a language model used. Start with `streamlit run app.py`."""

from pages.ui import frame

frame.run()
