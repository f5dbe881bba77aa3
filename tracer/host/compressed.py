"""Compressed kernels: the ELF image inside a bzImage (Linux: Documentation/arch/x86/boot.rst).

The setup header of a bzImage says where its payload lies; how it is compressed, its first bytes.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from evtrace.errors import CannotRecordError, NoInputError, NotATraceError

ELF_MAGIC = b"\x7fELF"

_BOOT_MAGIC = 0x202
_SETUP_SECTORS = 0x1F1
_PAYLOAD = 0x248
_SECTOR = 512


def read_elf(path: Path) -> bytes:
    """Give the ELF image in a file: vmlinux, vmlinuz, or a module, compressed or not.

    Raises `NoInputError`, `NotATraceError` if it is nothing of these, `CannotRecordError` if it is
    compressed in a way that Python does not know.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot read: {error.strerror or error}"
        raise NoInputError(message) from error
    if content[_BOOT_MAGIC : _BOOT_MAGIC + 4] == b"HdrS":
        start, length = struct.unpack_from("<II", content, _PAYLOAD)
        start += ((content[_SETUP_SECTORS] or 4) + 1) * _SECTOR
        content = content[start : start + length]
    image = _decompressed(path, content)
    if not image.startswith(ELF_MAGIC):
        hint = "give the kernel's vmlinux or vmlinuz, or a module"
        raise NotATraceError(path, 0, "an ELF image or a bzImage", repr(image[:4]), hint)
    return image


def _decompressed(path: Path, content: bytes) -> bytes:
    for magic, decompress in _METHODS.items():
        if content.startswith(magic):
            try:
                return decompress(content)
            except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
                hint = "check that the file was copied whole"
                raise NotATraceError(path, 0, "a whole image", str(error), hint) from error
    for magic, method in _UNKNOWN_METHODS.items():
        if content.startswith(magic):
            message = (
                f"{path}: is compressed by {method}, which evtrace cannot undo; "
                "give the vmlinux (scripts/extract-vmlinux of Linux makes one)"
            )
            raise CannotRecordError(message)
    return content


def _zstd(content: bytes) -> bytes:
    import zstandard  # noqa: PLC0415  only for kernels compressed so

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


_METHODS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": lambda content: lzma.LZMADecompressor().decompress(content),
    b"\x1f\x8b": lambda content: zlib.decompressobj(wbits=31).decompress(content),
    b"BZh": lambda content: bz2.BZ2Decompressor().decompress(content),
    b"\x5d\0\0": lambda content: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(content),
    b"\x28\xb5\x2f\xfd": _zstd,
}
"""First bytes -> what undoes it; each leaves alone what follows the stream."""

_UNKNOWN_METHODS = {b"\x02\x21\x4c\x18": "lz4", b"\x89LZO": "lzo"}
