"""Test pictures, made on the spot: sound ones, and the hostile ones that strangers send.

Deterministic (the same arguments give the same bytes with the same Pillow) and small. Needs ``stagedoor[media]``;
Pillow is imported by the functions that use it, so importing this module costs nothing. To cut files off, and for
noise and playlists, see `stagedoor.testing.media`.
"""

from __future__ import annotations

import functools
import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "CORNERS",
    "ODD_FORMATS",
    "SECRET",
    "Form",
    "animation",
    "corners",
    "huge_picture",
    "odd_format",
    "picture",
    "several_views",
    "swapped_profile",
    "talkative_picture",
    "turned_picture",
    "with_archive",
]

Form: TypeAlias = Literal["JPEG", "PNG", "WEBP"]

CORNERS = ((200, 40, 40), (40, 160, 40), (40, 40, 200), (200, 180, 40))
"""RGB of the quarters of a picture: upper left, upper right, lower left, lower right."""

SECRET = b"52.520008 N, 13.404954 E"
"""Stands in every piece of metadata of `talkative_picture`, and must not be found in anything made of it."""

ODD_FORMATS = ("BMP", "EPS", "GIF", "ICNS", "ICO", "JPEG2000", "PCX", "PPM", "SGI", "TGA", "TIFF", "AVIF")
"""What Pillow would open as well."""


def corners(size: tuple[int, int] = (600, 600), mode: str = "RGB") -> Image:
    """Four quarters of four colours, so that a picture tells how it was turned.

    Args:
        size: Width and height in pixels.
        mode: Of Pillow. In those with transparency, the upper left quarter is fully transparent.
    """
    from PIL import Image

    width, height = size
    image = Image.new("RGB", size)
    for index, colour in enumerate(CORNERS):
        left, upper = index % 2 * (width // 2), index // 2 * (height // 2)
        image.paste(colour, (left, upper, left + width - width // 2, upper + height - height // 2))
    if mode in ("RGBA", "LA"):
        alpha = Image.new("L", size, 255)
        alpha.paste(0, (0, 0, width // 2, height // 2))
        image.putalpha(alpha)
    if mode == "I;16":
        # Every value in the upper byte, and noise in the lower one.
        grey = image.convert("L").tobytes()
        return Image.frombytes("I;16", size, b"".join(bytes((value ^ 0x5A, value)) for value in grey))
    # Colours of the picture itself: those of the web would be mixed from dots.
    return image.quantize(16) if mode == "P" else image.convert(mode)


@functools.cache
def picture(
    form: Form = "JPEG",
    size: tuple[int, int] = (600, 600),
    mode: str = "RGB",
    *,
    progressive: bool = False,
    profile: bytes | None = None,
    transparent: bool = False,
) -> bytes:
    """A picture of four coloured quarters.

    Args:
        form: Of the file.
        size: Width and height in pixels.
        mode: Of Pillow, one that the format can hold: ``RGB``, ``L``, ``CMYK`` (JPEG only), ``RGBA``, ``LA``, ``P``,
            ``1``, ``I;16`` (PNG only).
        progressive: A JPEG in several passes.
        profile: ICC profile to go with it.
        transparent: Whether the upper left quarter is, in a PNG that has no channel for it but names a colour.
    """
    options: dict[str, Any] = {"progressive": progressive} if form == "JPEG" else {}
    if form == "WEBP":
        options["lossless"] = True
    if profile is not None:
        options["icc_profile"] = profile
    image = corners(size, mode)
    if transparent:
        options["transparency"] = image.getpixel((0, 0))
    return _saved(image, form, **options)


def _saved(image: Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@functools.cache
def turned_picture(orientation: int, form: Form = "JPEG", size: tuple[int, int] = (600, 300)) -> bytes:
    """A picture that is stored turned or mirrored, and says so: whoever obeys sees `corners` of this size.

    Args:
        orientation: 1 to 8, as EXIF has it.
        form: Of the file.
        size: As shown, in pixels.
    """
    from PIL import Image
    from PIL.Image import Transpose

    # The inverse of what a viewer does: turns by 90 and 270 degrees change places, the others undo themselves.
    undo = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_90, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_270,
    }  # fmt: skip
    image = corners(size)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    return _saved(stored, form, exif=exif)


@functools.cache
def talkative_picture(form: Form = "JPEG", size: tuple[int, int] = (600, 600)) -> bytes:
    """A picture that says `SECRET` wherever its format lets it: EXIF with a position, XMP, profile, comment, texts."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = SECRET.decode()
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = text, text  # description, artist
    position = exif.get_ifd(0x8825)
    position.update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0), 27: SECRET})
    options: dict[str, Any] = {
        "exif": exif,
        "icc_profile": swapped_profile() + SECRET,
        "xmp": f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>{text}</a></x:xmpmeta>'.encode(),
    }
    if form == "JPEG":
        options["comment"] = SECRET
    if form == "PNG":
        texts = PngInfo()
        texts.add_text("Comment", text)
        texts.add_itxt("Location", text)
        options |= {"pnginfo": texts, "dpi": (72, 72)}
        del options["xmp"]
    return _saved(corners(size), form, **options)


@functools.cache
def swapped_profile() -> bytes:
    """An ICC profile whose red is the blue of sRGB, and the other way round: who obeys it sees them swapped."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2010, 7.3: a table of signature, offset and size, after its number of entries.
    (entries,) = struct.unpack_from(">I", profile, 128)
    names = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}
    for at in range(132, 132 + 12 * entries, 12):
        name = bytes(profile[at : at + 4])
        profile[at : at + 4] = names.get(name, name)
    return bytes(profile)


@functools.cache
def animation(form: Literal["PNG", "WEBP"] = "WEBP", size: tuple[int, int] = (600, 600), frames: int = 3) -> bytes:
    """A picture that moves: `corners` first, then plain colours."""
    from PIL import Image

    later = [Image.new("RGB", size, (index, 99, 99)) for index in range(frames - 1)]
    options = {"lossless": True} if form == "WEBP" else {}
    return _saved(corners(size), form, save_all=True, append_images=later, duration=100, **options)


@functools.cache
def several_views(size: tuple[int, int] = (600, 600)) -> bytes:
    """A JPEG with another one behind it, listed in its head (CIPA DC-007), as cameras and telephones make it."""
    from PIL import Image

    return _saved(corners(size), "MPO", save_all=True, append_images=[Image.new("RGB", size, (9, 99, 99))])


# ── hostile ───────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def huge_picture(size: tuple[int, int] = (12_000, 12_000), form: Literal["PNG", "WEBP"] = "PNG") -> bytes:
    """144 megapixels of nothing in 17 KB."""
    from PIL import Image

    if form == "WEBP":
        # RFC 9649, 2.7.1: the canvas of an extended file; sound but for the size, which its one picture has not.
        data = bytearray(picture("WEBP", (16, 16), "RGBA"))
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
        extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
        return b"RIFF" + struct.pack("<I", len(data) - 8 + len(extended)) + b"WEBP" + extended + bytes(data[12:])
    return _saved(Image.new("1", size), "PNG", optimize=True)


def with_archive(data: bytes) -> bytes:
    """A picture that is an archive at the same time: viewers read from the front, zip programs from the end."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("secret.txt"), SECRET)
    return data + buffer.getvalue()


@functools.cache
def odd_format(form: str, size: tuple[int, int] = (600, 600)) -> bytes:
    """A sound picture in one of the `ODD_FORMATS`."""
    return _saved(corners(size, "P" if form in ("GIF", "PCX") else "RGB"), form)
