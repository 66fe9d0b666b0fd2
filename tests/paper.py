"""PDF files made by hand, so that a test knows where every line of them stands."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

Shown = tuple[float, float, str]  # points from the left and the lower edge, and what stands there
WIDTH, HEIGHT, SIZE = 420.0, 595.0, 10.0
# Helvetica's advance widths, in thousandths of its size, of what the tests print.
ADVANCES = {
    c: w
    for chars, w in [
        (" .,:;/!ftI", 278), ("ijl'", 222), ("cksvxyzJ", 500), ("rt()-", 333), ("mM", 833), ("w", 722), ("W", 944),
        ("ABEKPSVXY", 667), ("CDHNRU", 722), ("GOQ", 778), ("FTZ", 611), ("L", 556),
    ]
    for c in chars
}  # fmt: skip


def pdf(pages: Iterable[Iterable[Shown]], size: float = SIZE, extra: str = "", rotate: int = 0) -> bytes:
    """A file with these lines on its pages. extra: entries of the catalogue.

    rotate: degrees that pages are turned by when they are looked at; the lines are turned back, and stand upright.
    """
    turn = {
        0: "", 90: f"0 1 -1 0 {WIDTH} 0 cm", 180: f"-1 0 0 -1 {WIDTH} {HEIGHT} cm", 270: f"0 -1 1 0 0 {HEIGHT} cm"
    }[rotate]  # fmt: skip
    contents = [turn.encode() + b" " + _content(page, size) for page in pages]
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(contents)))
    font = 3 + 2 * len(contents)
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{extra}>>".encode(),
        f"<</Type/Pages/Count {len(contents)}/Kids[{kids}]>>".encode(),
    ]
    for i, content in enumerate(contents):
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {WIDTH} {HEIGHT}]/Rotate {rotate}/Contents {4 + 2 * i} 0 R"
            f"/Resources<</Font<</F {font} 0 R>>>>>>".encode()
        )
        packed = zlib.compress(content)
        objects.append(b"<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream" % (len(packed), packed))
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>")
    return _file(objects)


def lines(text: str, left: float = 50, top: float = 540, step: float = 13) -> list[Shown]:
    """Lines below one another; an empty one leaves a gap."""
    return [(left, top - i * step, line) for i, line in enumerate(text.split("\n")) if line]


def printed(text: str, width: float = 300, left: float = 50, top: float = 540) -> list[Shown]:
    """A paragraph broken as a word processor breaks it: a line ends where the next word has no room."""
    out, line = [], ""
    for word in text.split():
        if line and _advance(f"{line} {word}") > width:
            out.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines("\n".join([*out, line]), left, top)


def _advance(text: str) -> float:
    return sum(ADVANCES.get(c, 556) for c in text) * SIZE / 1000


def _content(page: Iterable[Shown], size: float) -> bytes:
    out = []
    for left, base, text in page:
        shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        out.append(f"BT /F {size} Tf {left} {base} Td ({shown}) Tj ET")
    return "\n".join(out).encode("cp1252")


def _file(objects: list[bytes]) -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + head + table + trailer
