"""Habits: what guests do with their ports, and what they must not do with them."""

from evtrace.replay.findings import Findings
from evtrace.replay.tokens import Channel
from evtrace.timeline import Row
from evtrace.tracefile.family import TextPurpose
from evtrace.verdicts import FindingCode, Run
from evtrace.xen.abi import PortState


class Habits:
    """Remembers of each port what its guest has done with it last."""

    def __init__(self, findings: Findings) -> None:
        """Start with well-behaved guests."""
        self._findings = findings
        self._uncleared: dict[Channel, Run] = {}  # running, and their bits are still set
        self._left_set: set[Channel] = set()
        self._taken: set[Channel] = set()  # off its queue since its last run
        self._last_of_vcpu: dict[tuple[int, int], Run] = {}
        self._irqs: dict[tuple[int, int], tuple[Channel, Row]] = {}  # by (domain, irq)
        self._done: dict[Channel, Row] = {}  # requested or EOId, to be unmasked at once

    # --- clearing ------------------------------------------------------------------------------

    def cleared(self, channel: Channel) -> None:
        """Note that a guest cleared a pending bit."""
        self._uncleared.pop(channel, None)
        self._left_set.discard(channel)

    def leaves_set(self, channel: Channel) -> bool:
        """Tell whether the guest handled an event of the port and left its bit set."""
        return channel in self._left_set

    def repeats(self, run: Run, last: Run | None) -> bool:
        """Tell whether a run follows right upon one of the same port whose bit was cleared."""
        if last is None or last.exit_tsc is None or (run.dom, run.port) in self._left_set:
            return False
        if (run.dom, run.port) in self._taken or last.cleared_tsc is None:
            return False
        adjacent = self._last_of_vcpu.get((run.dom, run.vcpu)) is last
        return adjacent and last.upcall_tsc == run.upcall_tsc

    def consumed(self, channel: Channel) -> None:
        """Note that a guest took a port off its queue: what it handles next is a new event."""
        self._taken.add(channel)

    def uncleared(self, run: Run, channel: Channel, *, has_event: bool) -> None:
        """Note that a handler starts, and nothing was cleared for it."""
        if has_event:
            self._uncleared[channel] = run
            return
        run.excused = True
        if channel not in self._left_set:
            name = f"d{channel[0]}:{channel[1]}"
            why = f"the handler of {name} ran again for an event that it had handled"
            self._findings.blame_guest(FindingCode.DOUBLE_HANDLE, run, channel, why)

    def returns(self, run: Run) -> None:
        """Note the end of a run: by now its guest has cleared the bit, or never will."""
        self._last_of_vcpu[run.dom, run.vcpu] = run
        if run.port is None:
            return
        channel = (run.dom, run.port)
        if self._uncleared.get(channel) is run:
            del self._uncleared[channel]
            self._left_set.add(channel)
            why = f"the handler of d{run.dom}:{run.port} ran, and its pending bit was not cleared"
            self._findings.blame_guest(FindingCode.NOT_CLEARED, run, channel, why)

    def on_wrong_vcpu(self, run: Run, channel: Channel, home: int) -> None:
        """Take a run on a vCPU that is not the port's."""
        dom, port = channel
        why = f"d{dom}v{run.vcpu} handled d{dom}:{port}, which is bound to v{home}"
        self._findings.blame_guest(FindingCode.WRONG_VCPU, run, channel, why)

    def kept_over_close(self, channel: Channel, seq: int, tsc: int, run: Run) -> None:
        """Take a run for an event that a former owner's close must have cleared."""
        if not self._findings.can_tell(channel[0], tsc, run.tsc):
            return
        name = f"d{channel[0]}:{channel[1]}"
        why = f"{name} was closed with an event pending, and its next owner got that at {run.tsc}"
        code = FindingCode.PENDING_KEPT_OVER_CLOSE
        self._findings.add(code, seq, tsc, at=channel, why=why)

    # --- masking -------------------------------------------------------------------------------

    def irq_bound(self, row: Row, channel: Channel) -> None:
        """Note which port is behind an irq; it is masked until the irq is requested."""
        self._irqs[channel[0], row.irq or 0] = channel, row

    def text(self, row: Row) -> None:
        """Note that an irq is named: it is requested, and its port must be unmasked."""
        words = row.words
        if row.dom is None or len(words) < 2 or words[0] & 0xFFFF != TextPurpose.IRQ_NAME:
            return
        text = b"".join(word.to_bytes(4, "little") for word in words[1:])
        number = text.partition(b" ")[0]
        bound = self._irqs.get((row.dom, int(number))) if number.isdigit() else None
        if bound is not None:
            self._done[bound[0]] = bound[1]

    def ended(self, row: Row, channel: Channel) -> None:
        """Note that a driver is done with an event: its port must be unmasked."""
        self._done[channel] = row

    def runs(self, channel: Channel) -> None:
        """Note that a port's handler starts."""
        self._taken.discard(channel)
        self._done.pop(channel, None)

    def unmasked(self, channel: Channel) -> None:
        """Note that a guest unmasked a port."""
        self._done.pop(channel, None)

    def left_masked(self, channel: Channel, state: PortState | None) -> None:
        """Take a port that is masked at the end, with an event."""
        row = self._done.get(channel)
        if row is None or state is PortState.IPI or not self._findings.watches(channel[0]):
            return  # an IPI without handler is there for polling
        name = f"d{channel[0]}:{channel[1]}"
        why = f"{name} is left masked from here to the end, and an event waits"
        code = FindingCode.NEVER_UNMASKED
        self._findings.add(code, row.seq, row.tsc_lo, at=channel, why=why)

    def forget(self, channel: Channel) -> None:
        """Forget a port that is closed."""
        self._taken.discard(channel)
        self._uncleared.pop(channel, None)
        self._left_set.discard(channel)
        self._done.pop(channel, None)
