"""Preflight: what a machine lets a recorder see, and what is said where it does not."""

from dataclasses import replace

import pytest

from evtrace.errors import CannotRecordError
from evtrace.tracer.host.machine import Machine
from evtrace.tracer.host.preflight import Answer, examine, refuse
from tests.unit.host import assembled as a
from tests.unit.host.machine_builder import make_dom0, make_program


@pytest.fixture
def dom0(tmp_path):
    dom0 = make_dom0(tmp_path)
    make_program(tmp_path, "xentrace", "true")
    return dom0


def look(machine, *, guest=False):
    return examine(machine, 1024, guest=guest)


def test_a_dom0_with_all_there_is(dom0):
    seen = look(dom0.machine)

    assert {Answer.YES} == {check.answer for check in seen.checks}
    assert "Xen 4.17, dom0" == seen.says("Xen").found
    assert "1 in the kernel, 0 in modules" == seen.says("call sites").found
    assert ["notify_remote_via_irq_12_pre", "notify_remote_via_irq_12_post"] == [
        probe.name for probe in seen.probes if probe.is_call
    ]
    refuse(seen)


def test_a_machine_without_xen_is_told_of_the_emulator(tmp_path):
    seen = look(Machine(tmp_path, is_root=True))

    with pytest.raises(CannotRecordError, match=r"does not run on Xen.*emulator"):
        refuse(seen)


def test_another_user_is_told_to_be_root(dom0):
    with pytest.raises(CannotRecordError, match="sudo"):
        refuse(look(replace(dom0.machine, is_root=False)))


def test_a_domu_is_told_of_guest(dom0, tmp_path):
    (tmp_path / "proc/xen/capabilities").write_text("")

    with pytest.raises(CannotRecordError, match="--guest"):
        refuse(look(dom0.machine))
    refuse(look(dom0.machine, guest=True))


def test_without_xentrace_the_probes_are_left(dom0, tmp_path):
    (tmp_path / "usr/sbin/xentrace").unlink()
    seen = look(dom0.machine)

    assert Answer.NO == seen.says("xentrace").answer
    assert seen.xentrace is None
    refuse(seen)


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        ("sys/kernel/security/lockdown", "none integrity [confidentiality]", "lockdown"),
        ("sys/kernel/tracing/trace_clock", "[local] global", "kprobes"),
    ],
)
def test_where_no_probe_can_be_set_xentrace_is_left(dom0, tmp_path, path, content, what):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    seen = look(dom0.machine)

    assert Answer.NO == seen.says(what).answer
    assert seen.tracefs is None
    refuse(seen)


def test_another_architecture_has_no_probes(dom0):
    seen = look(replace(dom0.machine, architecture="aarch64"))

    assert "aarch64" in seen.says("architecture").found
    assert seen.tracefs is None


def test_where_neither_can_be_used_it_says_why(dom0, tmp_path):
    (tmp_path / "usr/sbin/xentrace").unlink()
    (tmp_path / "sys/kernel/tracing/trace_clock").unlink()

    with pytest.raises(CannotRecordError, match=r"tracefs: not mounted.*xentrace: not installed"):
        refuse(look(dom0.machine))


def test_calls_that_are_not_understood_are_named(dom0, tmp_path):
    kcore = tmp_path / "proc/kcore"
    mov_eax_ecx = b"\x89\xc8\x90\x90\x90"
    kcore.write_bytes(kcore.read_bytes().replace(a.MOV_EAX_EVTCHN, mov_eax_ecx))
    seen = look(dom0.machine)

    assert "notify_remote_via_irq+0xd" in seen.says("call sites").found


def test_a_ring_as_large_as_the_memory_is_remarked_on(dom0, tmp_path):
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1024 kB\n")

    assert Answer.PARTLY == look(dom0.machine).says("buffers").answer


def test_hidden_addresses_are_said_to_be_hidden(dom0, tmp_path):
    (tmp_path / "proc/kallsyms").write_text("0000000000000000 T _text\n")
    seen = look(dom0.machine)

    assert "kptr_restrict" in seen.says("call sites").found
