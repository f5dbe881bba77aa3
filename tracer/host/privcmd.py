"""Hypercalls made by a program, through Linux's /dev/xen/privcmd (include/uapi/xen/privcmd.h).

Xen reads and writes the argument struct while the caller cannot take a page fault, so it lies in a
page that stays where it is: one that /dev/xen/hypercall hands out (since Linux 4.18) or, where that
is missing, one that is locked in memory.
"""

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from evtrace.errors import CannotRecordError
from evtrace.xen.abi import PAGE_BYTES, HYPERVISOR_event_channel_op, HYPERVISOR_xen_version

XEN_DEVICES: Final = Path("/dev/xen")

_CALL: Final = struct.Struct("=6Q")
"""struct privcmd_hypercall: the hypercall's number and five arguments."""

_IOCTL_HYPERCALL: Final = _CALL.size << 16 | ord("P") << 8
"""IOCTL_PRIVCMD_HYPERCALL: _IOC(_IOC_NONE, 'P', 0, sizeof)."""

_XENVER_VERSION: Final = 0
_XENVER_EXTRAVERSION: Final = 1
_EXTRAVERSION_BYTES: Final = 16

_UNMAPPED: Final = 0
"""An address at which no program has memory."""


@dataclass(frozen=True, slots=True)
class XenVersion:
    """What the running Xen says it is."""

    major: int
    minor: int
    extra: str
    """What the vendor put behind the numbers, as `.7` or `.3-pre`."""

    def __str__(self) -> str:
        """Write it as Xen does."""
        return f"{self.major}.{self.minor}{self.extra}"


class PrivCmd:
    """The door to the running Xen; one call at a time, in one thread. A context manager."""

    def __init__(self, folder: Path = XEN_DEVICES) -> None:
        """Open the devices of `folder`; `CannotRecordError` says what is missing."""
        with ExitStack() as stack:
            self._device = stack.enter_context(_open_device(folder / "privcmd"))
            self._page = stack.enter_context(_map_page(folder / "hypercall"))
            self._address = _address_of(self._page)
            self.version = self._ask_version()
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        """Go in; it is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back the page and the device."""
        self._open.close()

    def event_channel_op(
        self, command: int, words: Sequence[int] | None
    ) -> tuple[int, tuple[int, ...]]:
        """Do event_channel_op; give its result and the words of the struct after it.

        Without `words` the struct lies where no memory is, and Xen cannot read it.
        """
        if words is None:
            return self._hypercall(HYPERVISOR_event_channel_op, command, _UNMAPPED), ()
        layout = struct.Struct(f"<{len(words)}I")
        self._page[: layout.size] = layout.pack(*words)
        ret = self._hypercall(HYPERVISOR_event_channel_op, command, self._address)
        return ret, layout.unpack(self._page[: layout.size])

    def _ask_version(self) -> XenVersion:
        number = self._hypercall(HYPERVISOR_xen_version, _XENVER_VERSION, _UNMAPPED)
        self._page[:_EXTRAVERSION_BYTES] = bytes(_EXTRAVERSION_BYTES)
        ret = self._hypercall(HYPERVISOR_xen_version, _XENVER_EXTRAVERSION, self._address)
        if number < 0 or ret < 0:
            refusal = os.strerror(-min(number, ret))
            message = f"Xen does not say its version: {refusal}; is this a Xen domain, and root?"
            raise CannotRecordError(message)
        extra, _, _ = self._page[:_EXTRAVERSION_BYTES].partition(b"\0")
        return XenVersion(number >> 16, number & 0xFFFF, extra.decode("ascii", "replace"))

    def _hypercall(self, number: int, *args: int) -> int:
        """Make a hypercall with two arguments; errors as negative errno values, as Xen's are."""
        call = bytearray(_CALL.pack(number, *args, 0, 0, 0))
        try:
            return int(fcntl.ioctl(self._device, _IOCTL_HYPERCALL, call))
        except OSError as refusal:
            if refusal.errno is None:
                raise
            return -refusal.errno


def _open_device(path: Path) -> BinaryIO:
    try:
        return path.open("r+b", buffering=0)
    except FileNotFoundError:
        reason = "no such device: this is no Xen domain, or the module xen-privcmd is not loaded"
    except PermissionError:
        reason = "permission denied: only root may ask Xen"
    except OSError as error:
        reason = str(error.strerror)
    message = f"{path}: {reason}"
    raise CannotRecordError(message)


def _map_page(path: Path) -> mmap.mmap:
    """Map a page that neither moves nor is swapped out."""
    try:
        with path.open("r+b", buffering=0) as device:
            return mmap.mmap(device.fileno(), PAGE_BYTES)
    except OSError:
        return _lock_page()


def _lock_page() -> mmap.mmap:
    page = mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page[:] = bytes(PAGE_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlock(ctypes.c_void_p(_address_of(page)), ctypes.c_size_t(PAGE_BYTES)):
        reason = os.strerror(ctypes.get_errno())
        page.close()
        message = f"cannot lock a page in memory for Xen to read: {reason}"
        raise CannotRecordError(message)
    return page


def _address_of(page: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(page))
