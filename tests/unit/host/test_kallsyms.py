"""kallsyms: its text, and its tables in an image, as three ages of Linux lay them out."""

import struct

import pytest

from evtrace.tracer.host.kallsyms import Symbol, decode_kallsyms, parse_kallsyms

BASE = 0xFFFFFFFF81000000
NAMES = [f"symbol_{number:04}" for number in range(600)]
TOKENS = [bytes([number]) if 0x20 < number < 0x7F else b"" for number in range(256)]
TOKENS[1] = b"symbol_"


def align(data, to=8):
    return data + bytes(-len(data) % to)


def image(*, age, percpu=False):
    """Lay the tables out as scripts/kallsyms.c does: 5.10, 6.1 (stable), 6.12."""
    entries = [b"T\x01" + name.removeprefix("symbol_").encode() for name in NAMES]
    names, markers = b"", []
    for number, entry in enumerate(entries):
        if number % 256 == 0:
            markers.append(len(names))
        names += bytes([len(entry)]) + entry
    tokens = b"".join(text + b"\0" for text in TOKENS)
    starts = [len(b"".join(text + b"\0" for text in TOKENS[:number])) for number in range(256)]
    values = range(16, 16 * 601, 16)
    offsets = b"".join(struct.pack("<i", -1 - value if percpu else value) for value in values)
    address_table = align(offsets) + struct.pack("<Q", BASE)
    order = bytes(3 * len(NAMES)) if age == "6.1" else b""
    parts = [
        b"\xaa" * 512,
        b"" if age == "6.12" else address_table,
        struct.pack("<Q", len(NAMES)),
        align(names),
        align(struct.pack(f"<{len(markers)}I", *markers)),
        align(order),
        align(tokens),
        struct.pack("<256H", *starts),
        address_table if age == "6.12" else b"",
        b"\xbb" * 512,
    ]
    return b"".join(parts)


@pytest.mark.parametrize("age", ["5.10", "6.1", "6.12"])
@pytest.mark.parametrize("percpu", [False, True])
def test_the_tables_in_an_image(age, percpu):
    symbols = decode_kallsyms(image(age=age, percpu=percpu))

    assert [
        Symbol(name, BASE + 16 * number, "T") for number, name in enumerate(NAMES, 1)
    ] == symbols


def test_an_image_without_tables_has_no_symbols():
    assert [] == decode_kallsyms(b"0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0" * 40)


def test_the_text_of_proc():
    lines = [
        "ffffffff81000000 T _stext\n",
        "ffffffffc0001000 t evtchn_ioctl\t[xen_evtchn]\n",
        "0000000000000000 A cpu_info\n",
        "no symbol\n",
    ]

    assert [
        Symbol("_stext", BASE, "T"),
        Symbol("evtchn_ioctl", 0xFFFFFFFFC0001000, "t", "xen_evtchn"),
        Symbol("cpu_info", 0, "A"),
    ] == list(parse_kallsyms(lines))
