from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expunge.errors import BadData
from expunge.problems.images.folder import decode, image_size

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes with a huge header: a decompression bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_pictures_come_back_bit_for_bit(kind: str, options: dict[str, Any]) -> None:
    raw = encode(Image.fromarray(PIXELS), kind, **options)
    assert np.array_equal(decode(raw, "x"), PIXELS)
    assert decode(raw, "x", expected=(6, 5)).dtype == np.uint8
    assert image_size(raw, "x") == (6, 5)


def test_jpeg_comes_back_nearly() -> None:
    flat = Image.new("RGB", (16, 8), (200, 30, 60))
    found = decode(encode(flat, "JPEG", quality=95), "x").astype(int)
    assert found.shape == (8, 16, 3)
    assert np.abs(found - [200, 30, 60]).max() <= 4


def test_grey_palette_and_transparent_pictures_become_rgb() -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    assert np.array_equal(decode(encode(grey), "x"), np.repeat(PIXELS[..., :1], 3, axis=2))
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert decode(encode(clear), "x")[0, 0].tolist() == [10, 20, 30]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 90, 80, 70])
    raw = encode(palette, transparency=b"\x80\xff")  # of which Pillow warns on the way to RGB
    assert decode(raw, "x")[0, 0].tolist() == [90, 80, 70]


def test_size_crops_at_the_centre_and_resizes() -> None:
    # The middle four of eight columns are 50, the outer ones 250.
    wide = np.full((4, 8, 3), 250, dtype=np.uint8)
    wide[:, 2:6] = 50
    raw = encode(Image.fromarray(wide))
    assert (decode(raw, "x", size=4) == 50).all()
    for size in (1, 3, 9):
        found = decode(encode(Image.new("RGB", (5, 8), (7, 8, 9))), "x", size=size)
        assert found.shape == (size, size, 3)
        assert (found == [7, 8, 9]).all()


def test_another_size_than_expected_is_refused() -> None:
    raw = encode(Image.fromarray(PIXELS))
    with pytest.raises(BadData, match="image a is 5x6 pixels; expected 6x5"):
        decode(raw, "a", expected=(5, 6))


@pytest.mark.parametrize(
    ("side", "complaint"),
    [
        (8_193, "bomb claims 8193x8193 pixels; expected at most 67,108,864"),
        # From here on Pillow warns (an error in this test run), and further on it refuses.
        (10_000, "bomb is not an image that can be read; .* of reasonable size"),
        (2**30, "bomb is not an image that can be read; .* of reasonable size"),
    ],
)
def test_a_decompression_bomb_is_refused_unread(side: int, complaint: str) -> None:
    with pytest.raises(BadData, match=complaint):
        decode(png_that_claims(side, side), "bomb")


def test_a_bomb_is_refused_where_warnings_are_only_warnings() -> None:
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadData, match="claims 10000"):
        decode(png_that_claims(10_000, 10_000), "bomb")


@pytest.mark.parametrize("raw", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"not an image" * 9])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadData, match="here is not an image"):
        decode(raw, "here")


def test_other_formats_and_depths_are_refused() -> None:
    with pytest.raises(BadData, match="PNG, JPEG or WebP"):
        decode(encode(Image.fromarray(PIXELS), "BMP"), "x")
    deep = Image.fromarray(np.full((3, 3), 40_000, dtype=np.uint16))
    with pytest.raises(BadData, match="mode 'I;16'"):
        decode(encode(deep), "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_short_is_refused(kind: str) -> None:
    raw = encode(Image.fromarray(PIXELS.repeat(8, 0).repeat(8, 1)), kind)
    with pytest.raises(BadData, match="x"):
        decode(raw[: len(raw) // 2], "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_bytes_give_a_picture_or_bad_data_and_nothing_else(kind: str) -> None:
    whole = encode(Image.fromarray(PIXELS), kind)
    draw, refused = random.Random(0), 0
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(draw.choice((1, 3, 9))):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            assert decode(bytes(raw), "x").ndim == 3
        except BadData:
            refused += 1
    assert refused > 40
