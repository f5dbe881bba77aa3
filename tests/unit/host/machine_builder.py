"""A machine made of files: what /proc, /sys and Xen's tools of a dom0 look like to the recorder."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from evtrace.tracer.host.machine import Machine
from evtrace.tracer.host.tracefs import Tracefs
from tests.unit.host import assembled as a

BANNER = "Linux version 6.1.0-test (of a test) #1 SMP"
_TEXT_OFFSET = 4096


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_program(root, name, script):
    path = root / "usr/sbin" / name
    write(path, f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make_instance(instance: Path):
    """Fill the folder of an instance as the kernel does when it is made."""
    for name in ("tracing_on", "trace_clock", "buffer_size_kb", "current_tracer"):
        write(instance / name)
    for name in ("set_ftrace_filter", "trace_pipe", "trace_marker"):
        write(instance / name)
    for event in ("irq_handler_entry", "irq_handler_exit"):
        write(instance / f"events/irq/{event}/enable")
    write(instance / "per_cpu/cpu0/stats", "entries: 3\noverrun: 2\nbytes: 512\nread events: 5\n")


class FakeTracefs(Tracefs):
    """tracefs of plain files: making and removing an instance does what the kernel would."""

    def make_instance(self, buffer_kb):
        make_instance(self.instance)
        super().make_instance(buffer_kb)

    def define(self, probe):
        super().define(probe)
        for name in ("enable", "filter"):
            write(self.instance / f"events/evtrace/{probe.name}/{name}")

    def remove_instance(self):
        was_there = self.instance.exists()
        for folder, _, files in os.walk(self.instance, topdown=False):
            for name in files:
                (Path(folder) / name).unlink()
            Path(folder).rmdir()
        return was_there

    def undefine(self):
        names = self.defined()
        (self.root / "kprobe_events").write_text("")
        return len(names)


@dataclass
class Dom0:
    """A dom0 under a folder."""

    root: Path

    @property
    def machine(self):
        return Machine(self.root, is_root=True, architecture="x86_64")

    @property
    def tracefs(self):
        return FakeTracefs(self.root / "sys/kernel/tracing")


def make_dom0(root: Path) -> Dom0:
    """A dom0 with one call site in a kernel of one function, and Xen's tools."""
    write(root / "sys/hypervisor/type", "xen\n")
    write(root / "sys/hypervisor/version/major", "4\n")
    write(root / "sys/hypervisor/version/minor", "17\n")
    write(root / "proc/xen/capabilities", "control_d\n")
    write(root / "proc/version", f"{BANNER}\n")
    write(root / "proc/meminfo", "MemAvailable:   1000000 kB\n")
    write(root / "proc/self/stat")
    write(root / "dev/xen/privcmd")
    tracing = root / "sys/kernel/tracing"
    write(tracing / "kprobe_events")
    write(tracing / "trace_clock", "[local] global x86-tsc\n")
    write(tracing / "available_tracers", "function nop\n")
    make_kernel(root)
    make_program(
        root, "xl", 'case $1 in list) printf "Name ID Mem V S T\\nDomain-0 0 1 1 r- 1.0\\n";; esac'
    )
    make_program(root, "lsevtchn", 'echo "   1: VCPU 0: Virtual IRQ 0"')
    return Dom0(root)


def make_kernel(root: Path) -> None:
    """/proc/kallsyms and /proc/kcore of a kernel with one function that sends."""
    text = a.assembled(a.MOV_RSI_RSP, a.MOV_EDI_SEND, a.MOV_EAX_EVTCHN, a.CALL, a.RET)
    symbols = {
        "_text": a.BASE,
        "_stext": a.BASE,
        "notify_remote_via_irq": a.BASE,
        "handle_irq_for_port": a.BASE + 64,
        "_etext": a.BASE + 128,
        "__SCT__xen_hypercall": a.ENTRY,
    }
    lines = [f"{address:x} T {name}\n" for name, address in symbols.items()]
    write(root / "proc/kallsyms", "".join(lines))
    (root / "proc/kcore").write_bytes(core(a.BASE, text.ljust(128, b"\xcc")))


def core(address: int, content: bytes) -> bytes:
    """An ELF core file of one segment."""
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack(
        "<IIQQQQQQ", 1, 5, _TEXT_OFFSET, address, 0, len(content), len(content), 4096
    )
    return (header + segment).ljust(_TEXT_OFFSET, b"\0") + content
