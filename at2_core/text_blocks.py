"""What the readers of formatted files share: blocks of text, and how they become one text that reads well.

`Block`: ("text" | "heading" | "item" | "row", what it says), or ("end", "") around a table
`put_together(blocks)`, `tidy(text)`, `row(cells)`
"""

from __future__ import annotations

from collections.abc import Iterable

Block = tuple[str, str]


def put_together(blocks: Iterable[Block]) -> str:
    """Paragraphs parted by blank lines; a heading stands above its paragraph, items and rows stand line below line."""
    out: list[str] = []
    before = ""
    for kind, text in blocks:
        if not text.strip():
            before = "" if kind == "end" else before
            continue
        together = before == "heading" or (kind == before and kind in ("item", "row"))
        out += ["\n" if together else "\n\n", text.strip("\n")]
        before = kind
    return "".join(out[1:])


def tidy(text: str) -> str:
    """One line as it shows: one space between words, no hyphens that show only where a line ends."""
    return " ".join(text.replace("\xad", "").split())


def row(cells: Iterable[str]) -> str:
    """A row of a table on one line, by itself a source; "" for one that is empty."""
    shown = [tidy(cell) for cell in cells]
    return f"| {' | '.join(shown)} |" if any(shown) else ""
