"""An image file before its pixels are decoded: what its head says, and what of it the decoder may see."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.protocols.exif import Exif, orientation_of_xmp, read_exif

__all__ = ["ImageFile", "UnfitImageError", "orientation_of"]


class UnfitImageError(Exception):
    """A file whose pixels cannot be taken; the message is a sentence for the client."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """``mode`` is Pillow's word for the pixels, ``orientation`` EXIF's number for the way up (1 to 8).

    ``strip()`` refuses colours that are not sRGB and data that are cut off, and gives the file without its metadata:
    the decoder sees nothing but what makes pixels. ``colours`` is the number of a palette's entries.
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
        """Width and height in pixels, once they are the right way up."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)  # noqa: PLR2004


def orientation_of(blocks: Sequence[bytes], packets: Sequence[bytes]) -> tuple[int, Exif]:
    """Tell the way up from blocks of EXIF, of which the first counts, or else from packets of XMP.

    Raises:
        UnfitImageError: it cannot be read.
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
