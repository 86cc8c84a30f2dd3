"""Pictures: what they are, and covers made of them, by Pillow."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from .common import Answer, Input, RejectedError, fit, save

if TYPE_CHECKING:
    from PIL.Image import Image

_KINDS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""By Pillow's names. An MPO is a JPEG with more pictures behind the first one, as some cameras make them."""
_ORIENTATION = 0x0112
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for damaged files."""
_BYTES = 12
"""That a pixel takes while it is decoded, at most: as stored, as decoded, as converted."""
_PROFILE = 4 << 20
"""Larger colour profiles are dropped, in bytes; those of printers have about 2 MiB."""


class Readable(Protocol):
    """What a picture is read from: `Input`, or bytes from within another file."""

    def read(self, count: int = -1, /) -> bytes:
        """As of a file."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As of a file."""
        ...

    def tell(self) -> int:
        """As of a file."""
        ...


@contextmanager
def _judged(size: tuple[int, int]) -> Iterator[None]:
    """What Pillow's errors say about the content.

    Args:
        size: Width and height in pixels, as far as they are known.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise
    except _DAMAGE as error:
        # Codecs that find no memory often say something else. What they may have needed is asked for, and let go.
        bytes(_BYTES * size[0] * size[1])
        raise RejectedError("truncated" if "truncated" in str(error).lower() else "picture_damaged") from None


def _check_size(size: tuple[int, int], configuration: Mapping[str, Any]) -> None:
    width, height = size
    if max(size) > configuration["max_side"] or width * height > configuration["max_pixels"]:
        raise RejectedError("picture_too_large", width=width, height=height)


def _check_webp(file: Readable, head: bytes, configuration: Mapping[str, Any]) -> tuple[int, int]:
    """Look at length and size, and return it: Pillow takes memory for all pixels when it opens a WebP (RFC 9649)."""
    end = file.seek(0, 2)
    if 8 + int.from_bytes(head[4:8], "little") > end:
        raise RejectedError("truncated")
    if head[12:16] == b"VP8X":
        size = 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        size = int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    _check_size(size, configuration)
    return size


def _decoded(file: Readable, side: int, configuration: Mapping[str, Any]) -> tuple[dict[str, Any], Image]:
    """The facts, and the first picture with every pixel decoded, not yet turned.

    Args:
        side: A JPEG may be decoded smaller than it is, as long as its longer side has so many pixels.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own caps are lower, and never a warning
    file.seek(0)
    head, size = file.read(32), (1, 1)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        size = _check_webp(file, head, configuration)
    elif not head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise RejectedError("not_an_image")
    file.seek(0)
    with _judged(size):
        image = Image.open(cast("IO[bytes]", file), formats=("JPEG", "PNG", "WEBP"))
    width, height = image.size
    _check_size(image.size, configuration)
    with _judged(image.size):
        kind = _KINDS[str(image.format)]
        frames = 1 if kind == "jpg" else int(getattr(image, "n_frames", 1))
        image.draft(None, fit(image.size, side, side))
        image.load()
    orientation = _orientation(image)
    if orientation > 4:
        width, height = height, width
    return {
        "kind": kind,
        "width": width,
        "height": height,
        "orientation": orientation,
        "frames": frames,
        "alpha": image.has_transparency_data,
    }, image


def _orientation(image: Image) -> int:
    """How a viewer turns it, 1 to 8 as EXIF has it; 1 when that cannot be read."""
    try:
        with _judged((1, 1)):
            value = image.getexif().get(_ORIENTATION)
    except RejectedError:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _flat(image: Image) -> Image:
    """Without transparency: on white. One of the modes that colour profiles are made for: L, RGB or CMYK."""
    from PIL import Image

    if image.mode.startswith("I"):
        return image.point(lambda value: value * (1 / 256)).convert("L")  # 16 bits; converting alone would clip
    if not image.has_transparency_data:
        return image if image.mode in ("L", "RGB", "CMYK") else image.convert("L" if image.mode == "1" else "RGB")
    image = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    flat = Image.new("L" if image.mode == "LA" else "RGB", image.size, "white")
    flat.paste(image.convert(flat.mode), mask=image.getchannel("A"))
    return flat


def _in_srgb(image: Image, profile: bytes | None) -> Image:
    """The colours as a screen shows them; without a profile, or with one that does not fit, as they are."""
    from PIL import ImageCms

    if profile and len(profile) <= _PROFILE:
        try:
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if made is not None:
                return made
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")


def _turned(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image


def _bounded(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size within a square, never enlarged: made-up pixels only cost room, and players can do that as well."""
    return fit(size, side, side) if max(size) > side else size


def _resized(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    return image if image.size == size else image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def render_cover(
    file: Readable, sizes: Sequence[int], configuration: Mapping[str, Any]
) -> tuple[dict[str, Any], list[bytes]]:
    """A cover as JPEGs that hold pixels and nothing else.

    Args:
        file: A JPEG, PNG or WebP, whatever its name says; of an animation the first picture counts.
        sizes: Sides of the squares into which the smaller copies fit, in pixels. A picture that fits already gives
            a copy of its own size, so that there is one for each.
        configuration: ``max_side``, ``max_pixels`` (of the file), and ``picture_side`` (of what is made).

    Returns:
        The facts (``kind``, ``width`` and ``height`` in pixels as shown, ``orientation``, ``frames``, ``alpha``,
        and ``made``, the sizes of the JPEGs); the JPEGs: first the large one, then one a size.

    Raises:
        RejectedError: ``not_an_image``, ``picture_too_large``, ``truncated``, ``picture_damaged``.
        MemoryError: It takes too much.
    """
    from PIL import Image

    side = configuration["picture_side"]
    facts, image = _decoded(file, side, configuration)
    with _judged(image.size):
        profile = image.info.get("icc_profile")
        flat = _flat(image)
        picture = _in_srgb(_resized(flat, _bounded(flat.size, side)), profile)
        picture = _turned(picture, facts["orientation"])
        image.close()
        # What a picture was made of clings to it (profile, comment, position): a fresh one has nothing but pixels.
        full = Image.new("RGB", picture.size)
        full.paste(picture)
        made, smaller = {}, full
        for size in sorted(set(sizes), reverse=True):
            # From the next larger one: quick, and no eye sees the difference.
            made[size] = smaller = _resized(smaller, _bounded(full.size, size))
        blobs = [save(full, "JPEG", quality=90, progressive=True, optimize=True)]
        blobs += [save(made[size], "JPEG", quality=85, progressive=True, optimize=True) for size in sizes]
    return {**facts, "made": [list(picture.size) for picture in (full, *(made[size] for size in sizes))]}, blobs


def probe_image(source: Input, _: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """What a picture is, after all of it has been decoded."""
    facts, _image = _decoded(source, 1, configuration)
    return facts, []


def make_cover(source: Input, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """The facts and the JPEGs of `render_cover`."""
    return render_cover(source, arguments["sizes"], configuration)


def warm_up() -> None:
    """Use once what Pillow loads at its first use: a picture of each kind, with everything that one may have."""
    from PIL import Image, ImageCms, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

    Image.preinit()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    plain = Image.new("RGB", (16, 16))
    clear = Image.new("RGBA", (16, 16))
    configuration = {"max_side": 16, "max_pixels": 256, "picture_side": 8}
    for data in (
        save(plain, "JPEG", icc_profile=profile, exif=exif, comment=b"-"),
        save(plain, "MPO", save_all=True, append_images=[plain]),
        save(plain.convert("CMYK"), "JPEG"),
        save(plain.convert("P"), "PNG", icc_profile=profile, exif=exif, transparency=0),
        save(Image.new("I;16", (16, 16)), "PNG"),
        save(clear, "PNG", save_all=True, append_images=[plain.convert("RGBA")]),
        save(clear, "WEBP", icc_profile=profile, exif=exif, save_all=True, append_images=[plain]),
    ):
        render_cover(io.BytesIO(data), (4,), configuration)
    for data in (b"\xff\xd8\xff", save(plain, "PNG")[:-20]):
        try:
            render_cover(io.BytesIO(data), (4,), configuration)
        except RejectedError:
            continue
