"""Ground truth: what the emulator itself knows of each run and each send.

Kept from what happens, as it happens, and never read by the replay; a truth file judges verdicts.
It is JSON lines by `schemas/truth.schema.json`: a head, then runs and sends in the order in which
they are settled, then a summary. Only what is not settled yet is kept in memory.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from evtrace.verdicts import Cause, ContributionKind, EoiDelay, Fate, UpcallVerdict
from evtrace.xen.abi import PortState

SCHEMA = "evtrace-truth/1"

Channel = tuple[int, int]
"""(domain, port)."""


@dataclass(slots=True)
class SentEvent:
    """An EVTCHNOP_send; `tsc` is that of the record of its entry."""

    dom: int
    vcpu: int
    port: int
    tsc: int


class PortAtEnd(NamedTuple):
    """An open port at the end of a run."""

    vcpu: int
    masked: bool
    has_word: bool
    """False: FIFO, and the guest has given no event word for it."""
    lost: bool
    """A fault has cut it off."""


class Provocation(NamedTuple):
    """What set a port pending, or found it so."""

    kind: ContributionKind
    dom: int
    vcpu: int
    port: int
    tsc: int
    send: SentEvent | None = None


@dataclass(slots=True)
class _Book:
    """What is known of one port since its owner bound it."""

    pending: list[Provocation] = field(default_factory=list)
    taken: list[Provocation] = field(default_factory=list)
    """Of the bit that the guest cleared last, for the handler that is to run."""
    running: dict[int, "_Run"] = field(default_factory=dict)
    """By vCPU."""
    last: "_Run | None" = None
    repeats: bool = False
    """A fault of the guest runs the handler once more."""
    announced: bool = False
    """An upcall has to find what is pending."""
    freed_by: int | None = None
    """vCPU that is freeing its irq."""


@dataclass(slots=True)
class _Upcall:
    step: int
    """Its place among upcalls and runs."""
    tsc: int
    ports: set[int]
    """Announced to the vCPU since the upcall before, or taken off its queue in this one."""
    asserted: UpcallVerdict | None
    """Xen made it without an event."""
    runs: int = 0


@dataclass(slots=True)
class _Run:
    step: int
    dom: int
    vcpu: int
    port: int
    irq: int
    tsc: int
    cause: Cause
    provocations: list[Provocation]
    no_work: bool = False
    delay: EoiDelay | None = None


class Truth:
    """The books; nothing is kept before `start`."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._books: dict[Channel, _Book] = {}
        self._upcalls: dict[tuple[int, int], _Upcall] = {}  # by (dom, vcpu)
        self._steps = 0
        self._is_recording = False
        self._causes: Counter[Cause] = Counter()
        self._fates: Counter[Fate] = Counter()
        self._no_work = 0
        self._upcall_counts: Counter[int] = Counter()
        self._empty_upcalls: Counter[int] = Counter()
        self._announced: dict[tuple[int, int], set[int]] = {}
        self._asserted: dict[tuple[int, int], UpcallVerdict] = {}
        self._poll_ended_by: dict[tuple[int, int], int] = {}  # (dom, vCPU) -> port

    def start(self, file: IO[str] | None, facts: dict[str, object]) -> None:
        """Write what follows to `file`, if there is one."""
        self._file = file
        self._books.clear()
        self._write({"schema": SCHEMA, **facts})

    def record_from_here(self) -> None:
        """Count upcalls from here on: before, there were those of domains that started."""
        self._is_recording = True
        self._upcall_counts.clear()
        self._empty_upcalls.clear()

    # What sets and takes events

    def set_pending(self, dom: int, port: int, provocation: Provocation) -> None:
        """Note that an event was raised on a port."""
        self._book(dom, port).pending.append(provocation)

    def unreached(self, send: SentEvent, ret: int, state: PortState | None) -> None:
        """Settle a send that reached no port of a guest."""
        if ret < 0:
            self._settle(send, Fate.SEND_INVALID)
        elif state is PortState.UNBOUND:
            self._settle(send, Fate.DROP_UNBOUND)
        else:
            self._settle(send, Fate.XEN_CONSUMER)

    def dropped(self, send: SentEvent) -> None:
        """Settle a send for a vCPU without FIFO control block."""
        self._settle(send, Fate.DROP_NO_CONTROL_BLOCK)

    def lost(self, send: SentEvent) -> None:
        """Settle a send that a fault has lost."""
        self._settle(send, Fate.LOST)

    def cleared(self, dom: int, vcpu: int, port: int) -> None:
        """Note that a guest cleared a port's pending bit: for its handler, or as a poller."""
        book = self._book(dom, port)
        pending, book.pending = book.pending, []
        if (dom, vcpu) in self._upcalls:
            book.taken += pending
        else:
            woke = self._poll_ended_by.pop((dom, vcpu), None) == port
            self._answer(pending, None, poll_wake=woke)

    def polls(self, dom: int, vcpu: int) -> None:
        """Note that a vCPU calls SCHEDOP_poll."""
        self._poll_ended_by.pop((dom, vcpu), None)

    def poll_ends(self, dom: int, vcpu: int, port: int) -> None:
        """Note that an event of a masked port wakes a vCPU from its poll."""
        self._poll_ended_by[dom, vcpu] = port

    def left_set(self, dom: int, port: int) -> None:
        """Note that a guest takes a port's event for its handler and leaves the bit set."""
        book = self._book(dom, port)
        book.taken += book.pending
        book.pending = []

    def repeats(self, dom: int, port: int) -> None:
        """Note that a guest is about to run a handler again for the event it just handled."""
        self._book(dom, port).repeats = True

    def retriggered(self, dom: int, vcpu: int, port: int, tsc: int) -> None:
        """Note that a guest set a port's pending bit itself."""
        kind = ContributionKind.GUEST_SET
        self._book(dom, port).pending.append(Provocation(kind, dom, vcpu, port, tsc))

    def closed(self, dom: int, port: int) -> None:
        """Settle what was pending on a port that is closed."""
        book = self._books.pop((dom, port), None) or _Book()
        self._write_run(book.last)
        for provocation in [*book.taken, *book.pending]:
            if provocation.send is not None:
                self._settle(provocation.send, Fate.CLOSED)

    def closed_all(self, dom: int) -> None:
        """Settle what was pending on all ports of a domain."""
        for channel in [channel for channel in self._books if channel[0] == dom]:
            self.closed(*channel)

    def destroyed(self, dom: int) -> None:
        """Settle what was pending in a domain that is no more; its upcalls never return."""
        self.closed_all(dom)
        self._upcalls = {where: up for where, up in self._upcalls.items() if where[0] != dom}

    # What guests do

    def announced(self, dom: int, vcpu: int, port: int) -> None:
        """Note that a port's event was announced to a vCPU."""
        self._announced.setdefault((dom, vcpu), set()).add(port)
        self._book(dom, port).announced = True

    def silenced(self, dom: int, port: int) -> None:
        """Note that a guest masked a port, or took it off its queue."""
        self._book(dom, port).announced = False

    def asserted(self, dom: int, vcpu: int, why: UpcallVerdict) -> None:
        """Note that Xen makes an upcall without an event."""
        self._asserted[dom, vcpu] = why

    def upcall_enter(self, dom: int, vcpu: int, tsc: int) -> None:
        """Note that a vCPU took an upcall."""
        where = dom, vcpu
        ports, asserted = self._announced.pop(where, set()), self._asserted.pop(where, None)
        self._upcalls[where] = _Upcall(self._next_step(), tsc, ports, asserted)
        self._upcall_counts[dom] += 1

    def consumed(self, dom: int, vcpu: int, port: int) -> None:
        """Note that a vCPU took a port off its queue."""
        self._upcalls[dom, vcpu].ports.add(port)
        self.silenced(dom, port)

    def upcall_exit(self, dom: int, vcpu: int, is_pending: Callable[[int], bool]) -> None:
        """Note that it returned from it; say why no handler ran in it, if none did."""
        upcall = self._upcalls.pop((dom, vcpu), None)
        if upcall is None or upcall.runs or not self._is_recording:
            return
        self._empty_upcalls[dom] += 1
        found = UpcallVerdict.EMPTY_UPCALL
        if upcall.asserted is not None:
            found = upcall.asserted
        elif any(map(is_pending, upcall.ports)):
            found = UpcallVerdict.PASSED_OVER
        self._write({"empty_upcall": f"d{dom}v{vcpu}", "tsc": upcall.tsc, "verdict": found})

    def freeing(self, dom: int, port: int, vcpu: int) -> None:
        """Note that a vCPU frees the irq of a port."""
        self._book(dom, port).freed_by = vcpu

    def handler_enter(
        self, dom: int, vcpu: int, port: int, irq: int, tsc: int, *, unbound: bool = False
    ) -> None:
        """Start a run and name its cause; `unbound`: the port has lost its peer."""
        book = self._book(dom, port)
        self._write_run(book.last)
        provocations, book.taken = book.taken, []
        upcall = self._upcalls.get((dom, vcpu))
        if upcall is not None:
            upcall.runs += 1
        cause = _cause(provocations, book, unbound=unbound)
        repeats, book.repeats = book.repeats, False
        if cause is Cause.UNPROVOKED and (repeats or _taken_elsewhere(book, vcpu, upcall)):
            cause = Cause.DOUBLE_HANDLE
        run = book.running[vcpu] = book.last = _Run(
            self._next_step(), dom, vcpu, port, irq, tsc, cause, provocations
        )
        self._answer(provocations, run)

    def _answer(
        self, provocations: list[Provocation], run: _Run | None, *, poll_wake: bool = False
    ) -> None:
        """Settle the sends that a run took, or a poller, whom the first has woken or not."""
        fate = Fate.DELIVERED
        for provocation in provocations:
            if provocation.send is not None:
                woke = poll_wake and fate is Fate.DELIVERED
                self._settle(provocation.send, fate, run, poll_wake=woke)
            if provocation.kind is not ContributionKind.BEFORE:
                fate = Fate.COALESCED

    def handler_exit(self, dom: int, vcpu: int, port: int) -> None:
        """End a run."""
        self._book(dom, port).running.pop(vcpu, None)

    def no_work(self, dom: int, port: int) -> None:
        """Note that the driver found no work in the last run."""
        run = self._book(dom, port).last
        if run is not None:
            run.no_work = True

    def delayed(self, dom: int, port: int, why: EoiDelay) -> None:
        """Note that the end of the last run's event is put off."""
        run = self._book(dom, port).last
        if run is not None:
            run.delay = why

    def finish(self, ports: "dict[Channel, PortAtEnd]") -> None:
        """Settle what the end of the run left open and write the summary."""
        for channel, book in self._books.items():
            self._write_run(book.last)
            for provocation in book.taken:
                if provocation.send is not None:
                    self._settle(provocation.send, Fate.PENDING_AT_END)
            for provocation in book.pending:
                if provocation.send is not None:
                    self._settle(provocation.send, self._fate_at_end(channel, ports, book))
        doms = sorted(self._upcall_counts)
        self._write(
            {
                "summary": self._counts(),
                "upcalls": {f"d{dom}": self._upcall_counts[dom] for dom in doms},
                "empty_upcalls": {f"d{dom}": self._empty_upcalls[dom] for dom in doms},
            }
        )

    def _fate_at_end(
        self, channel: Channel, ports: "dict[Channel, PortAtEnd]", book: _Book
    ) -> Fate:
        port = ports.get(channel)
        if port is None or (port.masked and port.has_word):
            return Fate.HELD_MASKED
        if not port.has_word:
            return Fate.HELD_NO_WORD
        if port.lost:
            return Fate.LOST
        is_quiet = (channel[0], port.vcpu) not in self._upcalls
        return Fate.NOT_ANNOUNCED if is_quiet and not book.announced else Fate.PENDING_AT_END

    def _counts(self) -> dict[str, int]:
        counts = {f"cause.{cause}": count for cause, count in self._causes.items()}
        counts |= {f"fate.{fate}": count for fate, count in self._fates.items()}
        return dict(sorted({**counts, "no_work": self._no_work}.items()))

    def _next_step(self) -> int:
        self._steps += 1
        return self._steps

    def _book(self, dom: int, port: int) -> _Book:
        return self._books.setdefault((dom, port), _Book())

    # Lines

    def _settle(
        self, send: SentEvent, fate: Fate, run: _Run | None = None, *, poll_wake: bool = False
    ) -> None:
        self._fates[fate] += 1
        if self._file is None:
            return
        line: dict[str, object] = {
            "send": f"d{send.dom}:{send.port}",
            "vcpu": send.vcpu,
            "tsc": send.tsc,
            "fate": fate,
            "poll_wake": poll_wake,
        }
        if run is not None:
            line["run"] = {"port": f"d{run.dom}:{run.port}", "tsc": run.tsc}
        self._write(line)

    def _write_run(self, run: _Run | None) -> None:
        """Write a run of which nothing more will be said."""
        if run is None:
            return
        self._causes[run.cause] += 1
        self._no_work += run.no_work
        if self._file is None:
            return
        provocations = [
            {
                "kind": part.kind,
                "by": f"d{part.dom}v{part.vcpu}",
                "port": part.port,
                "tsc": part.tsc,
            }
            for part in run.provocations
        ]
        self._write(
            {
                "run": f"d{run.dom}:{run.port}",
                "vcpu": run.vcpu,
                "irq": run.irq,
                "tsc": run.tsc,
                "cause": run.cause,
                "no_work": run.no_work,
                "delay": run.delay,
                "provoked_by": provocations,
            }
        )

    def _write(self, line: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")


_BY_KIND = {
    ContributionKind.SEND: Cause.SEND,
    ContributionKind.IPI: Cause.IPI,
    ContributionKind.VIRQ: Cause.VIRQ,
    ContributionKind.PIRQ: Cause.PIRQ,
    ContributionKind.GUEST_SET: Cause.RETRIGGER_LOCAL,
}


def _cause(provocations: list[Provocation], book: _Book, *, unbound: bool) -> Cause:
    """Name the cause of a run from everything that set its event."""
    kinds = {provocation.kind for provocation in provocations}
    if not kinds:
        if book.freed_by is not None:
            return Cause.UNBIND_LAST_CALL
        return Cause.UNPROVOKED
    if kinds == {ContributionKind.BEFORE}:
        return Cause.STALE_PENDING_REUSE
    if ContributionKind.BIND in kinds:
        both = ContributionKind.SEND in kinds
        return Cause.BIND_MERGED if both else Cause.BIND_CONSERVATIVE
    if unbound:
        return Cause.PEER_CLOSE_RESIDUE
    return next(cause for kind, cause in _BY_KIND.items() if kind in kinds)


def _taken_elsewhere(book: _Book, vcpu: int, upcall: _Upcall | None) -> bool:
    """Tell whether another vCPU handles the port, or has since this one began to scan."""
    last = book.last
    if book.running.keys() - {vcpu}:
        return True
    return bool(upcall and last and last.vcpu != vcpu and last.step > upcall.step)
