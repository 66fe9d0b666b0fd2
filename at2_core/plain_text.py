"""Bytes as text, whatever wrote them.

`decoded(content, declared)` is the text; DocumentNotRead says what the bytes are if they are none, in words that stand
behind the file's name.
"""

from __future__ import annotations

import codecs

import regex

from .errors import DocumentNotRead
from .tokens import without_surrogates

_FOREIGN = {
    b"%PDF-": "a PDF file, so its name should end in .pdf",
    b"PK\x03\x04": "a zip archive; unpack it, or let its name end in .docx if it is one",
    b"\xd0\xcf\x11\xe0": "an old Office file or one with a password; save it as .docx without one",
    b"{\\rtf": "a rich text file; save it as .docx",
    b"\x89PNG": "a picture; run a text recognition (OCR) over it first",
    b"\xff\xd8\xff": "a picture; run a text recognition (OCR) over it first",
    b"GIF8": "a picture; run a text recognition (OCR) over it first",
    b"\x1f\x8b": "a compressed file; unpack it first",
    b"\x7fELF": "a program",
}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_OTHERS = "cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp932 euc_jp gb18030 big5 cp949 koi8_r"
_WESTERN = regex.compile(r"[\x00-\x7fÀ-ÂÄ-ÏÑ-ÔÖØ-ÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ€£§©®°·«»–—‘’“”„…•™\xa0¿¡]*+")
_INSIDE = regex.compile(r"\p{L}[¿¡]")  # letters of other languages, read wrongly
_CONTROL = regex.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def decoded(content: bytes, declared: str = "") -> str:
    """The bytes as text with "\\n" at line ends: as their mark or UTF-8 or `declared` has it, else by what is likely."""
    for magic, kind in _FOREIGN.items():
        if content.startswith(magic):
            raise DocumentNotRead(f"is not text but {kind}")
    text = _decoded(content, declared)
    if "\x00" in text or len(_CONTROL.findall(text)) > 2 + len(text) // 200:
        raise DocumentNotRead("holds binary data, not text")
    text = regex.sub(r"\r\n?|\x85|\x0c", "\n", text)
    return visible(text).removeprefix("\ufeff")


def _decoded(content: bytes, declared: str) -> str:
    marked = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "")
    if not marked and b"\x00" in content:  # half of a Western text in UTF-16 is zeros
        halves = {"utf-16-le": content[1::2], "utf-16-be": content[::2]}
        half = next((name for name, zeros in halves.items() if 4 * zeros.count(0) > len(content)), "")
        try:
            return content.decode(half)
        except (UnicodeError, LookupError) as error:
            raise DocumentNotRead("holds binary data, not text") from error
    for encoding in filter(None, (marked, "utf-8", declared)):
        try:
            return content.decode(encoding)
        except (UnicodeError, LookupError):
            continue
    # The detector is unsure of short texts; those of western Europe are by far the most.
    western = content.decode("cp1252", "ignore")
    if len(western) == len(content) and _WESTERN.fullmatch(western) and not _INSIDE.search(western):
        return western
    import charset_normalizer

    guess = charset_normalizer.from_bytes(content, cp_isolation=_OTHERS.split()).best()
    if guess is None:
        raise DocumentNotRead("is not text in an encoding that can be told; save it as UTF-8")
    return str(guess)


def visible(text: str) -> str:
    """Without control characters and lone halves of a character."""
    return without_surrogates(_CONTROL.sub("", text))
