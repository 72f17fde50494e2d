"""An image file whose header has been read, and whose pixels have not been decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.front.protocols.exif import Exif, orientation_of_xmp, read_exif

__all__ = ["MAX_METADATA", "TOO_MUCH", "ImageFile", "UnfitImageError", "most_parts", "orientation_of"]

FEW_PARTS, PART_BYTES = 128, 4096
MAX_METADATA = 4 << 20
"""The most bytes of a file, in chunks or segments, that are no pixels and no tables for decoding pixels."""
TOO_MUCH = f"it has more than {MAX_METADATA >> 20} MiB of metadata: save it without"


class UnfitImageError(Exception):
    """The pixels of a file cannot be used; the message is a sentence for the client."""


def most_parts(file: memoryview) -> int:
    """Return how many chunks or segments a file may have: each costs time, however small it is.

    Encoders write data in chunks of 8 KiB or more, and two or three dozen other parts.
    """
    return FEW_PARTS + len(file) // PART_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """What the header and the metadata of a file say.

    ``mode`` is Pillow's name for the type of the pixels, ``orientation`` EXIF's number for the way up (1 to 8).
    ``colours`` is the number of entries of the palette, None without a palette. ``strip()`` refuses colours that are
    not sRGB and data that are cut off, and gives the file without its metadata, so that the decoder only sees pixels.
    """

    kind: str
    width: int
    height: int
    mode: str
    orientation: int
    strip: Callable[[], bytes]
    colours: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, after the image is turned the right way up."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)  # noqa: PLR2004


def orientation_of(blocks: Sequence[memoryview], packets: Sequence[memoryview]) -> tuple[int, Exif]:
    """Find the orientation (1 to 8) in the first block of EXIF, or, if EXIF names none, in packets of XMP.

    Raises:
        UnfitImageError: EXIF or XMP cannot be read.
    """
    exif = Exif(None, adobe_rgb=False)
    try:
        if blocks:
            exif = read_exif(blocks[0])
        found = exif.orientation
        for packet in packets if found is None else ():
            found = found or orientation_of_xmp(packet)
    except ValueError:
        raise UnfitImageError(
            "its EXIF or XMP cannot be read, so which way up it is cannot be known: save it without"
        ) from None
    return found or 1, exif
