"""Decodes base64 as clients write it: plain, with line breaks, in the alphabet for URLs, or as a ``data:`` URL."""

import binascii
import re

__all__ = ["decode_base64"]

DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
SPACES = str.maketrans("", "", " \t\r\n")
URL_SAFE = str.maketrans("-_", "+/")


def decode_base64(text: str) -> bytes:
    """Decode one text; padding at the end may be missing.

    Raises:
        ValueError: the text has other characters, mixes both alphabets, or has padding inside or an impossible length.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # the slower way, only for a text that is not plain base64
        pass
    prefix = DATA_URL.match(text)
    text = text[prefix.end() if prefix else 0 :].translate(SPACES)
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            raise ValueError("two alphabets in one text")
        text = text.translate(URL_SAFE)
    if not text.endswith("="):
        text += "=" * (-len(text) % 4)
    return binascii.a2b_base64(text, strict_mode=True)
