"""Images on disk: a kernel with its symbols, and modules whose calls are relocated."""

import pytest

from evtrace.errors import CannotRecordError, NotATraceError
from evtrace.tracer.host.code import merge
from evtrace.tracer.host.images import module_files, read_kernel, read_modules
from evtrace.tracer.host.sites import find_sites
from tests.unit.host import assembled as a
from tests.unit.host.elf_builder import Relocation, elf

BANNER = b"Linux version 6.1.0-test (somebody) #1 SMP\n\0"
SEND = (a.MOV_RSI_RSP, a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)
UNLINKED = a.MOV_RSI_RSP + a.MOV_EDI_SEND + a.MOV_EAX_EVTCHN + b"\xe8\0\0\0\0" + a.RET


@pytest.fixture
def kernel(tmp_path):
    symbols = {"_text": a.BASE, "_stext": a.BASE, "notify": a.BASE, "__SCT__xen_hypercall": a.ENTRY}
    path = tmp_path / "vmlinux"
    path.write_bytes(elf(a.assembled(*SEND), symbols, address=a.BASE, extra=BANNER))
    return path


def make_module(path, target="__SCT__xen_hypercall", addend=-4):
    relocation = Relocation(len(UNLINKED) - 5, target, addend)
    path.write_bytes(elf(UNLINKED, {"own_ioctl": 0}, relocations=[relocation], is_module=True))


def test_a_linked_kernel(kernel):
    code = read_kernel(kernel)
    (site,) = find_sites(code).sites

    assert "Linux version 6.1.0-test (somebody) #1 SMP" == code.banner
    assert ("notify_12", 8, 18) == (site.name, site.before, site.behind)
    assert a.BASE == code.origin


def test_a_module_beside_its_kernel(kernel, tmp_path):
    make_module(tmp_path / "my-driver.ko")
    code = merge(read_kernel(kernel), read_modules(module_files(tmp_path)))

    assert [("my_driver", "own_ioctl_12"), ("", "notify_12")] == sorted(
        ((site.function.module, site.name) for site in find_sites(code).sites), reverse=True
    )


def test_a_module_of_an_older_kernel_calls_the_hypercall_page(tmp_path):
    make_module(tmp_path / "old.ko", "hypercall_page", 32 * 32 - 4)
    make_module(tmp_path / "other.ko", "hypercall_page", 29 * 32 - 4)
    (site,) = find_sites(read_modules(module_files(tmp_path))).sites

    assert ("old", 13) == (site.function.module, site.before)


def test_modules_that_make_no_hypercall_are_skipped(tmp_path):
    (tmp_path / "m.ko").write_bytes(elf(a.RET, {"f": 0}, is_module=True))

    assert [] == read_modules(module_files(tmp_path)).texts


def test_another_architecture_is_refused(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(elf(a.RET, {"f": 0}, machine=183))

    with pytest.raises(CannotRecordError, match="EM_AARCH64"):
        read_kernel(path)


def test_a_kernel_without_symbols_is_refused(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(elf(a.RET, {}))

    with pytest.raises(CannotRecordError, match="no symbols"):
        read_kernel(path)


def test_a_damaged_image_is_refused(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF and no more")

    with pytest.raises(NotATraceError):
        read_kernel(path)


@pytest.mark.parametrize("twentieths", range(20))
def test_a_cut_image_is_refused(kernel, twentieths):
    content = kernel.read_bytes()
    kernel.write_bytes(content[: len(content) * twentieths // 20])

    with pytest.raises((NotATraceError, CannotRecordError)):
        read_kernel(kernel)
