"""Image files, decoded: the only place that hands bytes from outside to Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from expunge.core.batch import Data, Indexed, Tensors
from expunge.core.seeds import stream
from expunge.errors import BadData
from expunge.problems.images.pool import Pool, stratified_rank

# Pillow knows dozens of formats, some with a poor record on hostile files: only these are tried.
FORMATS = ("PNG", "JPEG", "WEBP")


# Other modes (16 bits a pixel, floats) would be clipped to white on the way to RGB.
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


# An image of a few kilobytes can claim billions of pixels; 64 million are a large photograph.
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
    """Decode an image to uint8 [h, w, 3]; grey becomes RGB and transparency is dropped.

    Args:
        raw: the file's bytes.
        name: what to call it in an error.
        expected: height and width that it must have; None takes any.
        size: side of the square that it is cropped to at the centre and resized to; None keeps it.

    Raises:
        BadData: not a PNG, JPEG or WebP image, damaged, too large, or of another size.
    """
    with _opened(raw, name) as image:
        if expected is not None and (image.height, image.width) != expected:
            raise BadData(
                f"The image {name} is {image.width}x{image.height} pixels; expected "
                f"{expected[1]}x{expected[0]} as the others. Give a size to resize them all to."
            )
        try:
            # Straight from a palette to RGB, Pillow warns where the palette has transparency.
            whole = image.convert("RGBA") if image.mode in ("P", "PA") else image
            colour = whole.convert("RGB")
        except DAMAGE as error:
            raise BadData(f"The image {name} is damaged ({error}); replace or remove it.") from None
    if size is not None:
        colour = ImageOps.fit(colour, (size, size), Image.Resampling.BILINEAR)
    return np.array(colour)


def image_size(raw: bytes, name: str) -> tuple[int, int]:
    """Height and width of an image, read from its header alone.

    Raises:
        BadData: as for ``decode``, as far as the header shows it.
    """
    with _opened(raw, name) as image:
        return image.height, image.width


def _opened(raw: bytes, name: str) -> Image.Image:
    """Read the header and refuse what must not be decoded, before a pixel is."""
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except DAMAGE:
        raise BadData(
            f"{name} is not an image that can be read; expected an undamaged PNG, JPEG or WebP "
            "file of reasonable size. Replace or remove it."
        ) from None
    if image.width * image.height > MOST_PIXELS:
        raise BadData(
            f"The image {name} claims {image.width}x{image.height} pixels; expected at most "
            f"{MOST_PIXELS:,} in all. Make it smaller or remove it."
        )
    if image.mode not in MODES:
        raise BadData(
            f"The image {name} has pixels of mode {image.mode!r}; expected 8 bits a channel. "
            "Convert it to 8-bit grey or RGB."
        )
    return image


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


# Decoded images up to this many bytes are kept in memory; more are decoded when asked for.
IN_MEMORY = 2**30


# The shares that are carved out of train where the folder brings no val or no test.
TEST_SHARE, VAL_SHARE = 0.1, 0.1


# The split belongs to the folder, not to an experiment: it moves only when images do.
SPLIT_SEED = 0


# ImageNet's, a channel, which pretrained networks expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageFile:
    """A file and its class, a position in the list of class names."""

    file: Path
    target: int


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images that are decoded when asked for; ``targets`` are known without decoding."""

    def __init__(
        self, found: Sequence[ImageFile], shape: tuple[int, int], size: int | None
    ) -> None:
        self.found = tuple(found)
        self.targets = [image.target for image in found]
        self.shape, self.size = shape, size

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = self.pixels(row).float().div_(255)
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (pixels - mean) / std, self.targets[row]

    def pixels(self, row: int) -> Tensor:
        """Decode one image, uint8 [3, h, w]."""
        file = self.found[row].file
        expected = self.shape if self.size is None else None
        pixels = decode(_bytes(file), repr(str(file)), expected=expected, size=self.size)
        return torch.as_tensor(pixels).permute(2, 0, 1)


def image_folder(folder: str | Path, size: int | None = None) -> Pool:
    """Load ``folder/train/<class>/*.png|jpg|jpeg|webp``, and ``val/`` and ``test/`` laid out alike.

    Where ``val/`` or ``test/`` is missing, a tenth of train is carved out for it, class by class;
    a class of five images or fewer stays whole in train. Hidden files and files that are no
    images are left out. Inputs are RGB; up to 1 GiB they are decoded once, beyond that each time.

    Args:
        folder: holds ``train``.
        size: side in pixels of the square that every image is cropped to at its centre and
            resized to. None takes the images as they are, which must then be of one size.

    Raises:
        BadData: the folder is not laid out so, a link leads out of it, a class is unknown or has
            a name that cannot be printed, or an image is damaged, too large or of another size.
    """
    root = Path(folder)
    if size is not None and size < 1:
        raise BadData(f"Got size={size}; expected 1 pixel or more.")
    classes = _classes(root / "train")
    found = {"train": _images(root, "train", classes)}
    for part, share in (("test", TEST_SHARE), ("val", VAL_SHARE)):
        if (root / part).exists():
            found[part] = _images(root, part, classes)
        else:
            found["train"], found[part] = _carve(found["train"], share, part)
    first = found["train"][0].file
    shape = (size, size) if size else image_size(_bytes(first), repr(str(first)))
    parts = {part: ImageFiles(images, shape, size) for part, images in found.items()}
    fits = sum(map(len, parts.values())) * 3 * shape[0] * shape[1] <= IN_MEMORY
    train, val, test = (_data(parts[part], fits) for part in ("train", "val", "test"))
    return Pool(root.resolve().name, train, val, test, classes, (3, *shape))


def _data(images: ImageFiles, fits: bool) -> Data:
    """Decode now what fits in memory, and the rest when it is asked for."""
    if not fits:
        return Indexed(images)
    inputs = np.empty((len(images), 3, *images.shape), dtype=np.uint8)
    for row in range(len(images)):
        inputs[row] = images.pixels(row)
    return Tensors(torch.as_tensor(inputs), torch.tensor(images.targets), MEAN, STD)


def _classes(train: Path) -> tuple[str, ...]:
    """Name the classes, in alphabetical order, after the folders in train."""
    if not train.is_dir():
        raise BadData(f"There is no folder {str(train)!r}; expected one with a folder a class.")
    names = sorted(entry.name for entry in train.iterdir() if _counts(entry) and entry.is_dir())
    for name in names:
        # Class names go to reports and terminals: no newlines, escape codes or broken Unicode.
        if not name.isprintable():
            raise BadData(
                f"The class folder {name!r} has a name that cannot be printed; rename it."
            )
    if len(names) < 2:
        raise BadData(f"{str(train)!r} holds {len(names)} class folders; expected 2 or more.")
    return tuple(names)


def _images(root: Path, part: str, classes: tuple[str, ...]) -> list[ImageFile]:
    """List a part's images, by class and then by name."""
    found: list[ImageFile] = []
    if not (root / part).is_dir():
        raise BadData(f"{str(root / part)!r} is a file; expected a folder with a folder a class.")
    for entry in sorted((root / part).iterdir()):
        if not _counts(entry) or not entry.is_dir():
            continue
        if entry.name not in classes:
            raise BadData(f"The class {entry.name!r} is in {part!r} but not in 'train'.")
        target = classes.index(entry.name)
        files = sorted(file for file in entry.iterdir() if _counts(file) and _is_image(file))
        if not files and part == "train":
            raise BadData(f"The class folder {str(entry)!r} holds no image; add some or remove it.")
        found += [ImageFile(_inside(root, file), target) for file in files]
    if not found:
        raise BadData(f"{str(root / part)!r} holds no image; add some, or remove it.")
    return found


def _counts(entry: Path) -> bool:
    """Leave out what systems put beside images: .DS_Store, .thumbnails, ._name.jpg."""
    return not entry.name.startswith(".")


def _is_image(file: Path) -> bool:
    """Tell an image by its name; folders in class folders would be passed over in silence."""
    if file.is_dir():
        raise BadData(f"{str(file)!r} is a folder in a class folder; expected images only.")
    return file.suffix.lower() in SUFFIXES


def _inside(root: Path, file: Path) -> Path:
    """Follow links, and refuse a file that lies outside the folder or is no regular file."""
    try:
        real = file.resolve()
    except (OSError, RuntimeError):  # which of them, depends on the version of Python
        raise BadData(f"{str(file)!r} is a link in a circle; remove it.") from None
    if not real.is_relative_to(root.resolve()):
        raise BadData(f"{str(file)!r} is a link out of the folder; copy the image into it.")
    if not real.is_file():
        raise BadData(f"{str(file)!r} is not a regular file; replace or remove it.")
    return file


def _bytes(file: Path) -> bytes:
    """Read a file whole."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadData(f"{str(file)!r} cannot be read: {error.strerror}.") from None


def _carve(
    found: Sequence[ImageFile], share: float, part: str
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Split off a share of every class, by a draw that is always the same."""
    targets = torch.tensor([image.target for image in found])
    held = stratified_rank(targets, stream(f"folder {part}", SPLIT_SEED)) < share
    if not held.any():
        raise BadData(
            f"No class has enough images to carve out {part!r} from 'train'; add images, or "
            f"a folder {part!r} with a folder a class."
        )
    rest = [image for image, out in zip(found, held.tolist(), strict=True) if not out]
    return rest, [image for image, out in zip(found, held.tolist(), strict=True) if out]
