"""Outside calls: what guests do to the shared memory, and the interrupts that Xen raises."""

from evtrace.replay.belief import Belief
from evtrace.replay.delivery import WAKE_CYCLES, Delivery, Step
from evtrace.replay.events import Events, Raised
from evtrace.replay.runs import Runs
from evtrace.replay.tokens import Channel
from evtrace.timeline import Row
from evtrace.verdicts import ContributionKind
from evtrace.xen.abi import PortState


class Outside:
    """Lets the model follow every such step; each method takes the row that shows it."""

    def __init__(self, belief: Belief, runs: Runs, delivery: Delivery, events: Events) -> None:
        """Follow them on `belief`."""
        self._belief = belief
        self._runs = runs
        self._delivery = delivery
        self._events = events

    def mask(self, row: Row) -> None:
        """Follow a guest that masks a port."""
        if row.port is not None:
            self._belief.mask((row.dom or 0, row.port))
            self._delivery.masked((row.dom or 0, row.port))
            self._runs.silenced((row.dom or 0, row.port))

    def unmask(self, row: Row) -> None:
        """Follow a guest that unmasks a port."""
        if row.port is not None:
            channel = (row.dom or 0, row.port)
            self._events.resend(channel)
            self._delivery.unmasks(row, channel)
            self._belief.unmask(channel, row.vcpu or 0)
            self._delivery.unmasked(row, channel)
            self._runs.unmasked(channel, row.tsc_lo)
            self._runs.unmask_announces(channel)

    def set_pending(self, row: Row) -> None:
        """Follow a guest that sets a pending bit itself."""
        if row.port is not None:
            dom, vcpu = row.dom or 0, row.vcpu or 0
            self._belief.set_pending((dom, row.port))
            raised = Raised.by_row(ContributionKind.GUEST_SET, row, vcpu, (dom, row.port))
            self._runs.contribute((dom, row.port), raised.contribution(masked=False), None)

    def consume(self, row: Row) -> None:
        """Follow a guest that takes a port off its queue."""
        if row.port is not None:
            self._belief.consume((row.dom or 0, row.port))
            self._runs.consumed((row.dom or 0, row.port), row.vcpu or 0)

    def irq_handled(self, row: Row) -> None:
        """Take the record of an interrupt, which Xen writes when it is done with it."""
        channel = self._belief.host_irqs.get(row.irq or 0)
        if channel is not None and self._belief.state(channel) is PortState.PIRQ:
            self._belief.raise_pirq(channel)
            began = row.tsc_lo - ((row.tsc_lo - (row.a0 or row.tsc_lo)) & 0xFFFFFFFF)
            self._interrupt(row._replace(tsc_lo=began), channel)

    def pirq_raised(self, row: Row) -> None:
        """Follow Xen: a physical interrupt for a domain."""
        channel = self._belief.pirq_port(row.dom or 0, row.a0 or 0)
        if channel is not None:
            self._belief.raise_pirq(channel)
            self._interrupt(row, channel)

    def virq_raised(self, row: Row) -> None:
        """Follow Xen: a virtual interrupt."""
        self._belief.raise_virq(row.dom or 0, row.vcpu or 0, row.a0 or 0)
        for event in self._belief.events():
            channel = (event.dom, event.port)
            if event.dropped:
                continue
            raised = Raised.by_row(ContributionKind.VIRQ, row, event.vcpu, channel)
            self._runs.contribute(
                channel, raised.contribution(masked=event.masked, own=event.port), None
            )
            self._delivery.raised(channel, Step(row.tsc_lo, row.tsc_hi + WAKE_CYCLES))
            self._events.announce(event)

    def _interrupt(self, row: Row, channel: Channel) -> None:
        events = {(event.dom, event.port): event for event in self._belief.events()}
        event = events.get(channel)
        if event is not None and event.dropped:
            return
        raised = Raised.by_row(ContributionKind.PIRQ, row, row.vcpu or 0, channel)
        part = raised.contribution(masked=event is not None and event.masked)
        if not self._runs.explain_late(channel, part):
            self._runs.contribute(channel, part, None)
        self._delivery.raised(channel, Step(row.tsc_lo, row.tsc_hi + WAKE_CYCLES))
        if event is not None:
            self._events.announce(event)
