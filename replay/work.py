"""Work: what drivers found (L3), who made them look for nothing, and whether they had to wait.

Only the driver knows whether there was work: it says so when it ends the event, as Linux's late EOI
does. Who is to blame for a run without work, and why the port stayed masked, is inferred.
"""

from dataclasses import dataclass
from typing import Final

from evtrace.replay.tokens import Channel
from evtrace.timeline import RecordClass, Row
from evtrace.tracefile.coverage import CoverageMap
from evtrace.verdicts import ContributionKind, EoiDelay, Run, WorkCause, WorkVerdict

EOI_SPURIOUS: Final = 1
"""XEN_EOI_FLAG_SPURIOUS (Linux, include/xen/events.h)."""

UNPUNISHED: Final = 1
"""Events in a row that may bring no work: Linux's default spurious_threshold."""

LOOP_EVENTS: Final = 512
"""Events of one upcall before Linux can hold it for too long: it looks at every 256th, and the
first time only starts its clock (drivers/xen/events/events_base.c)."""


@dataclass(slots=True)
class _Port:
    """What is known of a port whose driver ends its events."""

    in_a_row: int = 0
    """Events without work up to now."""
    said: bool | None = None
    """Whether its last run has been ended, and without work."""
    found_tsc: int = 0
    """Start of the last run that found work."""
    in_long_upcall: bool = False
    """Its last event was ended within an upcall of at least `LOOP_EVENTS` events."""


class Work:
    """Judges the ends of events."""

    def __init__(self, coverage: CoverageMap) -> None:
        """Say nothing of whom to blame where `coverage` has gaps."""
        self._coverage = coverage
        self._sent: dict[Channel, int] = {}  # last EVTCHNOP_send through a port
        self._before: dict[Channel, tuple[Run | None, int | None]] = {}
        self._ports: dict[Channel, _Port] = {}

    def sends(self, channel: Channel, tsc: int) -> None:
        """Note a send through a guest's own port."""
        self._sent[channel] = tsc

    def runs(self, channel: Channel, previous: Run | None) -> None:
        """Note that a port's handler starts, and which run of it was before."""
        self._before[channel] = previous, self._sent.get(channel)
        port = self._ports.get(channel)
        if port is not None:
            port.said = None

    def forget(self, channel: Channel) -> None:
        """Forget a port that is closed."""
        for book in (self._sent, self._before, self._ports):
            book.pop(channel, None)

    def ends(self, row: Row, channel: Channel, run: Run | None, events: int) -> bool:
        """Take a driver's end of an event, in an upcall of so many `events` up to now.

        Tells whether the port must be unmasked at once.
        """
        port = self._ports.setdefault(channel, _Port())
        spurious = bool((row.a0 or 0) & EOI_SPURIOUS)
        port.in_a_row = port.in_a_row + 1 if spurious else 0
        port.in_long_upcall = events >= LOOP_EVENTS
        if run is not None:
            run.eoi_tsc = row.tsc_lo
            self._judge(run, channel, port, spurious=spurious)
        return not spurious and not port.in_long_upcall

    def _judge(self, run: Run, channel: Channel, port: _Port, *, spurious: bool) -> None:
        said, port.said = port.said, spurious
        if not spurious:
            port.found_tsc = run.tsc
        if said is not None and said != spurious:
            run.work, run.work_cause = WorkVerdict.NO_WORK, WorkCause.SHARED_PORT_SPLIT
            run.work_evidence = "observed"
        elif spurious and run.work is None:
            run.work = WorkVerdict.NO_WORK
            run.work_cause, run.work_evidence = self._who(run, channel, port.found_tsc)

    def _who(self, run: Run, channel: Channel, found_tsc: int) -> tuple[WorkCause | None, str]:
        """Say who made a run find no work; nobody if no send is behind it.

        `found_tsc`: since when no run of the port has found any.
        """
        sends = [part for part in run.contributors if part.kind is ContributionKind.SEND]
        if not sends:
            return None, ""
        previous, own_send = self._before.get(channel, (None, None))
        since = sends[0].tsc if previous is None else previous.tsc
        unseen = self._coverage.missing(channel[0], RecordClass.CALL, since, run.tsc)
        unseen = unseen or self._coverage.gap(channel[0], since, run.tsc) or self._coverage.loss
        if unseen:
            return WorkCause.UNKNOWN, unseen
        if previous is not None and _took_all(previous, sends[-1].tsc_hi):
            return WorkCause.TAKEN_BY_LAST_RUN, _TAKEN
        if own_send is not None and own_send >= found_tsc:
            return WorkCause.WORK_STOLEN, _STOLEN
        return WorkCause.OVER_NOTIFY, _OVER

    def unmasked(self, channel: Channel, run: Run) -> None:
        """Judge an unmask that follows the end of an event: whether it came late."""
        port = self._ports.get(channel)
        end, left = run.eoi_tsc, run.exit_tsc
        if port is None or end is None or left is None or end > left:
            return  # the handler did not end it, or it was unmasked before that returned
        if port.in_a_row > UNPUNISHED:
            run.eoi_delay = EoiDelay.LATEEOI_DELAYED
            jiffies = 1 << (port.in_a_row - UNPUNISHED - 1)
            rule = f"{port.in_a_row} in a row without work: Linux waits {jiffies:,} jiffies"
            rule += ", a second at most" if jiffies > MIN_HZ else ""
            run.eoi_delay_evidence = f"inferred({rule})"
        elif port.in_long_upcall:
            run.eoi_delay, run.eoi_delay_evidence = EoiDelay.LOOP_DEFERRED, _DEFERRED


MIN_HZ: Final = 100
"""The lowest of Linux's frequencies of jiffies; which one a kernel has is in no trace."""


def _took_all(previous: Run, last_sent_tsc: int) -> bool:
    """Tell whether the run before found work, and was not done with it when the last send came."""
    done = previous.eoi_tsc if previous.eoi_tsc is not None else previous.exit_tsc
    return previous.work is None and done is not None and last_sent_tsc <= done


_TAKEN = "inferred(all of it was sent before the run before was done)"
_STOLEN = "inferred(the guest has sent through this port itself since a run of it found work)"
_OVER = "inferred(the guest has sent nothing through this port since a run of it found work)"
_DEFERRED = (
    f"inferred(ended in an upcall of {LOOP_EVENTS} events or more: "
    "after 2 jiffies Linux puts further ends off by 10)"
)
