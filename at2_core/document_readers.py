"""One reader for each kind of file, and the program that reads one file apart from everything else.

`READERS`: by suffix, bytes to a document, whose title may be "". `read(suffix, content)` also looks at what comes out.
`python -m at2_core.document_readers .pdf` reads its standard input, so that whoever started it can end it: there are
files made to keep their reader busy for ever.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

from .csv_text import read_csv
from .docx_text import read_docx
from .errors import DocumentNotRead
from .html_text import read_html
from .pdf_text import read_pdf
from .plain_text import decoded, visible
from .prompts import Document

MOST_CHARACTERS = 2_000_000
MOST_MEMORY = 4 * 2**30  # bytes of address space

READERS: dict[str, Callable[[bytes], Document]] = {
    ".txt": lambda content: Document("", decoded(content)),
    ".md": lambda content: Document("", decoded(content)),
    ".html": lambda content: Document(*read_html(content)),
    ".htm": lambda content: Document(*read_html(content)),
    ".pdf": read_pdf,
    ".docx": lambda content: Document("", read_docx(content)),
    ".csv": lambda content: Document("", read_csv(content)),
}


def read(suffix: str, content: bytes) -> Document:
    """The document; DocumentNotRead says what is wrong, in words that stand behind the file's name."""
    if not content:
        raise DocumentNotRead("is empty")
    found = READERS[suffix](content)
    text = visible(found.text)
    if not text.strip():
        raise DocumentNotRead("has no text")
    if len(text) > MOST_CHARACTERS:
        raise DocumentNotRead(
            f"holds {len(text):,} characters of text; {MOST_CHARACTERS:,} is the most, so take the part that matters"
        )
    return replace(found, title=visible(found.title), text=text)


def _main() -> None:
    """Write the document in the file on standard input, or what is wrong with it, as JSON."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system can limit it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        said = asdict(read(sys.argv[1], sys.stdin.buffer.read()))
    except DocumentNotRead as error:
        said = {"wrong": str(error)}
    except (MemoryError, RecursionError):
        said = {"wrong": "is too large or too tangled to be read"}
    sys.stdout.buffer.write(json.dumps(said).encode())


if __name__ == "__main__":
    _main()
