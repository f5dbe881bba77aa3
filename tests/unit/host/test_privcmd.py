"""/dev/xen/privcmd: what goes through the door, and what is said where there is none."""

import ctypes
import fcntl
import struct

import pytest

from evtrace.errors import CannotRecordError
from evtrace.tracer.host.privcmd import PrivCmd

EXTRA = b".7-pre\0junk"


class Device:
    """The kernel's side of the ioctl; it reads and writes the caller's memory, as Xen does."""

    def __init__(self):
        self.requests = []
        self.answers = []

    def ioctl(self, _device, request, call):
        number, command, address, *rest = struct.unpack("=6Q", call)
        assert rest == [0, 0, 0]
        self.requests.append(request)
        if number == 17:
            if command == 1:
                ctypes.memmove(address, EXTRA, len(EXTRA))
            return 0 if command else 4 << 16 | 17
        assert number == 32
        ret, write = self.answers.pop(0)(command, address)
        if ret < 0:
            raise OSError(-ret, "refused")
        if write:
            ctypes.memmove(address, write, len(write))
        return ret


@pytest.fixture
def device(monkeypatch):
    device = Device()
    monkeypatch.setattr(fcntl, "ioctl", device.ioctl)
    return device


@pytest.fixture(params=["hypercall", "locked"])
def door(request, tmp_path, device):
    """The open door, with a page of /dev/xen/hypercall and with a locked one."""
    assert device.requests == []
    (tmp_path / "privcmd").write_bytes(b"")
    if request.param == "hypercall":
        (tmp_path / "hypercall").write_bytes(bytes(4096))
    with PrivCmd(tmp_path) as door:
        yield door


def test_the_version_is_asked_when_it_opens(door, device):
    assert str(door.version) == "4.17.7-pre"
    assert (door.version.major, door.version.minor) == (4, 17)
    assert set(device.requests) == {0x305000}


def test_words_go_to_xen_and_come_back(door, device):
    def answer(command, address):
        assert command == 6
        assert ctypes.string_at(address, 8) == struct.pack("<2I", 0x7FF0, 7)
        return 0, struct.pack("<2I", 0x7FF0, 41)

    device.answers.append(answer)
    assert door.event_channel_op(6, [0x7FF0, 7]) == (0, (0x7FF0, 41))


def test_a_refusal_is_a_negative_errno_and_the_words_stay(door, device):
    device.answers.append(lambda *_: (-22, b""))
    assert door.event_channel_op(3, [9]) == (-22, (9,))


def test_a_struct_that_xen_cannot_read_lies_nowhere(door, device):
    def answer(_command, address):
        return (-14, b"") if address == 0 else (0, b"")

    device.answers.append(answer)
    assert door.event_channel_op(3, None) == (-14, ())


def test_without_xen_it_says_what_is_missing(tmp_path):
    with pytest.raises(CannotRecordError, match="this is no Xen domain"):
        PrivCmd(tmp_path)


def test_a_file_that_is_no_device_is_not_taken_for_xen(tmp_path):
    (tmp_path / "privcmd").write_bytes(b"")
    with pytest.raises(CannotRecordError, match="does not say its version"):
        PrivCmd(tmp_path)
