"""Files as documents: text, Markdown, HTML, PDF, Word and tables.

`read_document(name, content)`: the documents in a file, or DocumentNotRead with a sentence that says what to do
`SUFFIXES`: the kinds of files

A file is one document, titled after its own title (HTML) or its name. Its paragraphs are parted by blank lines, so that
granularity "paragraph" means them. Of a PDF the document also knows where its pages begin.

A file comes from anywhere. What is more than plain text is read by another process, which is ended when it takes too
long, too much memory, or the process down with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

from .document_readers import READERS, read
from .errors import DocumentNotRead
from .plain_text import visible
from .prompts import Document
from .tokens import without_surrogates

SUFFIXES = tuple(READERS)
MOST_BYTES = 200 * 2**20
MOST_BYTES_HERE = 8 * 2**20  # of a plain text that this process decodes itself
MOST_SECONDS = 60.0


def read_document(name: str, content: bytes, seconds: float = MOST_SECONDS) -> list[Document]:
    """The documents in a file, none of them empty.

    name: of the file, with the suffix that says its kind. seconds: that reading it may take.
    Raises DocumentNotRead where it is no such file, holds no text, too much of it, or is made to harm.
    """
    file = PurePosixPath(_one_line(name).replace("\\", "/"))
    suffix = f".{file.name.rpartition('.')[2]}".lower()
    try:
        if suffix not in READERS:
            kinds = ", ".join(kind for kind in SUFFIXES if kind != ".htm")
            raise DocumentNotRead(
                f"is none of the files that can be read ({kinds}); save its text as one of them"
            )
        if len(content) > MOST_BYTES:
            raise DocumentNotRead(
                f"has {len(content) / 2**20:,.0f} MB; {MOST_BYTES // 2**20} MB is the most, so take the part that matters"
            )
        found = read(suffix, content) if _is_plain(suffix, content) else _read_apart(suffix, content, seconds)
    except DocumentNotRead as error:
        raise DocumentNotRead(f"{_short(file.name) or 'The file'} {error}.") from error
    title = _short(_one_line(found.title)) or _short(file.stem.rstrip()) or "Untitled"
    return [replace(found, title=title)]


def _is_plain(suffix: str, content: bytes) -> bool:
    """Whether nothing but decoding is to be done, which cannot go on for long."""
    if suffix not in (".txt", ".md") or len(content) > MOST_BYTES_HERE:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_apart(suffix: str, content: bytes, seconds: float) -> Document:
    """What `read` gives, from another process."""
    command = [sys.executable, "-m", "at2_core.document_readers", suffix]
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, cwd=root, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DocumentNotRead(
            f"was not read within {seconds:g} seconds; save it anew, or take a part of it"
        ) from error
    except OSError as error:
        raise DocumentNotRead(f"cannot be read now ({error.strerror or error}); try again") from error
    try:
        said = json.loads(done.stdout)
    except ValueError as error:  # the process has died of it
        raise DocumentNotRead(
            "cannot be read: it is damaged, or needs too much memory; save it anew"
        ) from error
    if "wrong" in said:
        raise DocumentNotRead(said["wrong"])
    return Document(**said)


def _one_line(text: str) -> str:
    return " ".join(visible(without_surrogates(text)).split())


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:199]}…"
