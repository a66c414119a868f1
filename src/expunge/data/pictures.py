"""Picture files, decoded: the only place that hands bytes from outside to Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from expunge.errors import BadData

# Pillow knows dozens of formats, some with a poor record on hostile files: only these are tried.
FORMATS = ("PNG", "JPEG", "WEBP")
# Other modes (16 bits a pixel, floats) would be clipped to white on the way to RGB.
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
# A picture of a few kilobytes can claim billions of pixels; 64 million are a large photograph.
MOST_PIXELS = 2**26
# What Pillow raises on damaged files, found by fuzzing all three formats.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Warning,  # raised where the user turns warnings into errors
)


def decode(
    raw: bytes, name: str, *, expected: tuple[int, int] | None = None, size: int | None = None
) -> np.ndarray:
    """Decode a picture to uint8 [h, w, 3]; grey becomes RGB and transparency is dropped.

    Args:
        raw: the file's bytes.
        name: what to call it in an error.
        expected: height and width that it must have; None takes any.
        size: side of the square that it is cropped to at the centre and resized to; None keeps it.

    Raises:
        BadData: not a PNG, JPEG or WebP picture, damaged, too large, or of another size.
    """
    with _opened(raw, name) as picture:
        if expected is not None and (picture.height, picture.width) != expected:
            raise BadData(
                f"The picture {name} is {picture.width}x{picture.height} pixels; expected "
                f"{expected[1]}x{expected[0]} as the others. Give a size to resize them all to."
            )
        try:
            # Straight from a palette to RGB, Pillow warns where the palette has transparency.
            whole = picture.convert("RGBA") if picture.mode in ("P", "PA") else picture
            colour = whole.convert("RGB")
        except DAMAGE as error:
            raise BadData(
                f"The picture {name} is damaged ({error}); replace or remove it."
            ) from None
    if size is not None:
        colour = ImageOps.fit(colour, (size, size), Image.Resampling.BILINEAR)
    return np.array(colour)


def picture_size(raw: bytes, name: str) -> tuple[int, int]:
    """Height and width of a picture, read from its header alone.

    Raises:
        BadData: as for ``decode``, as far as the header shows it.
    """
    with _opened(raw, name) as picture:
        return picture.height, picture.width


def _opened(raw: bytes, name: str) -> Image.Image:
    """Read the header and refuse what must not be decoded, before a pixel is."""
    try:
        picture = Image.open(io.BytesIO(raw), formats=FORMATS)
    except DAMAGE:
        raise BadData(
            f"{name} is not a picture that can be read; expected an undamaged PNG, JPEG or WebP "
            "file of reasonable size. Replace or remove it."
        ) from None
    if picture.width * picture.height > MOST_PIXELS:
        raise BadData(
            f"The picture {name} claims {picture.width}x{picture.height} pixels; expected at most "
            f"{MOST_PIXELS:,} in all. Make it smaller or remove it."
        )
    if picture.mode not in MODES:
        raise BadData(
            f"The picture {name} has pixels of mode {picture.mode!r}; expected 8 bits a channel. "
            "Convert it to 8-bit grey or RGB."
        )
    return picture
