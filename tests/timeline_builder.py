"""Timelines in a few lines: a script of what guests and Xen were seen to do, as rows."""

from itertools import count
from typing import cast

from evtrace.replay.belief import Belief
from evtrace.replay.follow import Follow
from evtrace.timeline import HOST_CLOCK, Kind, RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.family import ChannelBits, FactKey, GuestType
from evtrace.xen.abi import EvtchnOp, PortState
from evtrace.xen.profiles import find_profile

ALL = tuple(RecordClass)


class Captured:
    """Coverage that a test dictates: (dom, class) pairs that are missing, with a reason."""

    loss = ""

    def __init__(self, *missing):
        self._missing = set(missing)

    def missing(self, dom, classes, lo, hi):
        del lo, hi
        gone = [cls.name for cls in classes if (dom, cls) in self._missing]
        return f"no {gone[0]} of d{dom}" if gone else None

    gaps_reach_guests = False

    def covered(self, dom, classes, lo, hi):
        return self.missing(dom, classes, lo, hi) is None

    def extent(self, dom, cls):
        del dom, cls

    def gap(self, dom, lo, hi):
        del dom, lo, hi
        return ""

    def classes(self, dom=None):
        """Not every step: these tests are about verdicts, and nobody is blamed.

        Calls are told of where they are missing for some domain only.
        """
        blind = {gone for gone, cls in self._missing if cls is RecordClass.CALL}
        return RecordClass.CALL if blind and dom not in blind else RecordClass(0)


NOTHING_RAISED = tuple((dom, RecordClass.RAISE) for dom in range(4))
"""VIRQs and PIRQs leave no record when raised, as on every real host."""


class Script:
    """Collects rows; times are given, everything else has defaults."""

    def __init__(self):
        self.rows = []
        self.pcpus = {}
        """(domain, vCPU) -> pCPU on which it runs; 0 if it is not named."""
        self._seq = count(1)
        self._call_id = count(1)

    def add(self, tsc, kind, dom=0, vcpu=0, **fields):
        row = Row(
            seq=next(self._seq),
            tsc_lo=tsc,
            tsc_hi=tsc,
            clock=HOST_CLOCK,
            pcpu=fields.get("pcpu", self.pcpus.get((dom, vcpu), 0)),
            dom=dom,
            vcpu=vcpu,
            kind=kind,
            **{
                name: fields.get(name)
                for name in "op call_id port irq rc a0 a1 a2 a3 a4 a5".split()  # noqa: SIM905
            },
            file_offset=0,
        )
        self.rows.append(row)
        return row

    def snapshot(self, tsc, dom, *channels, fifo=True):
        """Add a snapshot of (port, state, vcpu, peer, peer_port) tuples."""
        self.add(tsc, Kind.FACT, dom, 0xFFFF, a0=FactKey.SNAPSHOT, a1=0)
        bits = ChannelBits.BITS_KNOWN | ChannelBits.FORM_KNOWN
        bits |= ChannelBits.FIFO if fifo else ChannelBits(0)
        for port, state, vcpu, peer, peer_port in channels:
            fields = {"a0": port, "a1": state | bits, "a2": peer, "a3": peer_port, "a4": 7}
            self.add(tsc, Kind.CHANNEL, dom, vcpu, port=port, **fields)

    def call(self, start, end, op, *args, rc=0, out=(), dom=0, vcpu=0):
        """Add a call that lasts from `start` to `end` (None: it never returned)."""
        call_id = next(self._call_id)
        words = {f"a{place}": value for place, value in enumerate(args)}
        entered = self.add(start, Kind.CALL_ENTER, dom, vcpu, op=op, call_id=call_id, **words)
        if end is not None:
            words = {f"a{place}": value for place, value in enumerate(out)}
            self.add(end, Kind.CALL_EXIT, dom, vcpu, op=op, call_id=call_id, rc=rc, **words)
        return entered

    def send(self, start, end, port, dom=0, vcpu=0, rc=0):
        """Add an EVTCHNOP_send."""
        return self.call(start, end, EvtchnOp.SEND, port, rc=rc, dom=dom, vcpu=vcpu)

    def run(self, tsc, port, dom=0, vcpu=0, irq=None, clear=True, ends=True):
        """Add an upcall in which the port is cleared and its handler runs."""
        irq = 100 + port if irq is None else irq
        self.add(tsc, Kind.UPCALL_ENTER, dom, vcpu)
        if clear:
            self.add(tsc + 1, Kind.CLEAR, dom, vcpu, port=port)
        entered = self.add(tsc + 2, Kind.HANDLER_ENTER, dom, vcpu, port=port, irq=irq)
        if ends:
            self.add(tsc + 3, Kind.HANDLER_EXIT, dom, vcpu, port=port, irq=irq)
        return entered

    def replay(self, *missing, xen="HEAD", raises=False, habits=None, hvm=()):
        """Replay the script; `missing` are (dom, class) pairs that were not captured.

        `raises`: the raising of VIRQs and PIRQs was captured, as on no real host. `habits`: of the
        domains' kernels, else they are Linux. `hvm`: domains that are no PV guests.
        """
        types = dict.fromkeys(hvm, GuestType.HVM)
        belief = Belief(find_profile(xen), habits=habits, guest_types=types)
        captured = Captured(*missing, *(() if raises else NOTHING_RAISED))
        rows = sorted(self.rows, key=lambda row: (row.tsc_lo, row.seq))
        return Follow(belief, cast("CoverageMap", captured)).follow(rows)


INTERDOMAIN, UNBOUND, IPI = PortState.INTERDOMAIN, PortState.UNBOUND, PortState.IPI
VIRQ, PIRQ = PortState.VIRQ, PortState.PIRQ


def connected():
    """Start with d0:1 (vCPU 0) connected to d1:1 (vCPU 0), and d0:2 an IPI of vCPU 1."""
    script = Script()
    script.snapshot(1, 0, (1, INTERDOMAIN, 0, 1, 1), (2, IPI, 1, 0, 0))
    script.snapshot(1, 1, (1, INTERDOMAIN, 0, 0, 1))
    return script
