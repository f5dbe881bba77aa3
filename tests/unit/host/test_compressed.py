"""Images as they lie in /boot: compressed, behind the setup code of a bzImage."""

import bz2
import gzip
import lzma
import struct

import pytest
import zstandard

from evtrace.errors import CannotRecordError, NoInputError, NotATraceError
from evtrace.tracer.host.compressed import read_elf

ELF = b"\x7fELF" + bytes(range(200)) * 20
SIZE = struct.pack("<I", len(ELF))


def bzimage(payload):
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 96, len(payload))
    return bytes(setup) + bytes(96) + payload + b"what follows"


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        lzma.compress,
        gzip.compress,
        bz2.compress,
        zstandard.ZstdCompressor().compress,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    ],
)
def test_every_compression_that_python_knows(tmp_path, compress):
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(compress(ELF) + SIZE))

    assert ELF == read_elf(path)[: len(ELF)]


def test_a_module_alone(tmp_path):
    path = tmp_path / "m.ko.xz"
    path.write_bytes(lzma.compress(ELF))

    assert ELF == read_elf(path)


def test_lz4_is_said_to_be_unknown(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(b"\x02\x21\x4c\x18" + bytes(99)))

    with pytest.raises(CannotRecordError, match="lz4"):
        read_elf(path)


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, bz2.compress])
def test_damage_is_said(tmp_path, compress):
    path = tmp_path / "vmlinuz"
    content = bytearray(compress(ELF))
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)

    with pytest.raises(NotATraceError):
        read_elf(path)


@pytest.mark.parametrize(
    "compress", [lzma.compress, gzip.compress, bz2.compress, zstandard.ZstdCompressor().compress]
)
def test_a_cut_image_is_said(tmp_path, compress):
    path = tmp_path / "vmlinuz"
    path.write_bytes(compress(ELF)[:-20])

    with pytest.raises(NotATraceError):
        read_elf(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no kernel")

    with pytest.raises(NotATraceError, match="ELF image or a bzImage"):
        read_elf(tmp_path / "text")
    with pytest.raises(NoInputError):
        read_elf(tmp_path / "nothing")
