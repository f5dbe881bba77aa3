"""The output of Xen's debug key `e`, the ports of every domain, as a console shows it.

It may come with console prefixes and lines of others in between, and may end anywhere. What looks
like a broken line of the dump is kept as unread: what such a list lacks may only be missing from
the text.
"""

import re
from collections.abc import Iterable

from evtrace.snapshot import Extent, Snapshot
from evtrace.tracer.importers.port_lines import (
    PORT,
    PREFIX,
    channel_of,
    is_fifo,
    read_numbers,
)

_DOMAIN = re.compile(PREFIX + r"Event channel information for domain (\d{1,9}):")
_POLLING = re.compile(PREFIX + r"Polling vCPUs: \{([\d,-]*)\}")
_BROKEN = re.compile(
    PREFIX + r"\d+(?: \[[01]?/?.*)?$"  # a port's line that stops early
    r"|\d+ \[[01]/[01]/|\]: s=\d|Event channel inf|Polling vCPUs: \{",
)
_PRESSED = re.compile(PREFIX + r"'e' pressed")
_AFTERWARDS = re.compile(
    PREFIX + r"(?:'.' pressed|TSC (?:not )?marked|TSC has|No domains have emulated TSC)"
)
"""First lines of what other keys print: the dump of `e` is over."""
_TSC = re.compile(
    PREFIX + r"dom(?P<dom>\d{1,9})(?P<hvm>\(hvm\))?: mode=(?P<mode>\d+).*\bkhz=(?P<khz>\d{1,9})"
)
_PROCESSOR = re.compile(PREFIX + r"Detected (\d{2,6}\.\d{1,6}) MHz processor")
"""What Xen logs at its start: the TSC's rate."""
_ALWAYS_EMULATED = "1"
"""tsc_mode in which a guest's TSC counts nanoseconds, whatever the host's does."""
_VCPUS_OF = re.compile(PREFIX + r"VCPU information and callbacks for domain (\d{1,9}):")
_VCPU = re.compile(PREFIX + r"VCPU(\d{1,9}): CPU\d+ \[has=")


def parse_debug_keys(lines: Iterable[str]) -> Snapshot:
    """Read what debug key `e` prints, and the Hz from key `s`: the last dump in the text."""
    return parse_dumps(lines)[-1]


def parse_dumps(lines: Iterable[str]) -> list[Snapshot]:
    """Read every dump of debug key `e` in a console's log, the oldest first; at least one.

    (Xen: domain_dump_evtchn_info.) What keys `s` and `q` print belongs to the dump before it.
    """
    reader = _DumpReader()
    for line in lines:
        reader.read(line)
    return reader.dumps


class _DumpReader:
    """Reads lines one by one; knows in whose list it stands."""

    def __init__(self) -> None:
        self.dumps = [_new_dump(from_start=False)]
        self._dom: int | None = None  # whose list goes on
        self._last: int | None = None  # whose list went on last
        self._port = 0  # the last one of that list
        self._fresh: int | None = None  # the port that the line before was about
        self._vcpus_of: int | None = None

    @property
    def _snapshot(self) -> Snapshot:
        return self.dumps[-1]

    def read(self, line: str) -> None:
        """Take a line."""
        before, self._fresh = self._fresh, None
        if before is not None and line.strip().isdecimal():
            self._take_back(before, line)
        elif _PRESSED.match(line):
            self._start_dump(from_start=True)
        elif (start := _DOMAIN.match(line)) is not None:
            self._start_domain(int(start[1]))
        elif (polling := _POLLING.match(line)) is not None:
            self._take_polling(polling[1])
        elif (match := PORT.match(line)) is not None and channel_of(match) is not None:
            self._take_port(match, line)
        elif _AFTERWARDS.match(line):
            self._end()
        elif not self._take_fact(line) and _BROKEN.search(line):
            self._damage(line)

    def _start_dump(self, *, from_start: bool) -> None:
        self._end()
        known = self._snapshot
        new = _new_dump(from_start=from_start)
        new.hvm, new.tsc_hz, new.vcpus = dict(known.hvm), known.tsc_hz, dict(known.vcpus)
        if known.domains or known.extent.unread:
            self.dumps.append(new)
        else:
            self.dumps[-1] = new

    def _start_domain(self, dom: int) -> None:
        if dom in self._snapshot.domains:
            self._start_dump(from_start=dom == 0)
        extent = self._snapshot.extent
        if not self._snapshot.domains and dom == 0 and not extent.unread:
            extent.from_start = True
        if self._dom is not None:
            extent.ended.add(self._dom)
            extent.all_domains &= dom > self._dom
        self._dom = self._last = dom
        self._port = 0
        extent.to_end = False
        self._snapshot.domains[dom] = {}

    def _take_polling(self, numbers: str) -> None:
        dom = self._dom
        if dom is None or dom in self._snapshot.polling:  # whose list this is was not read
            self._lose_owner()
        else:
            self._snapshot.polling[dom] = frozenset(read_numbers(numbers))

    def _take_port(self, match: re.Match[str], line: str) -> None:
        channel = channel_of(match)
        if self._dom is not None and channel is not None:
            channels = self._snapshot.domains[self._dom]
            if channel.port > self._port:
                self._port = self._fresh = channel.port
                channels[channel.port] = channel
                self._snapshot.fifo[self._dom] = is_fifo(match["state"])
                return
        self._lose_owner()  # ports ascend: if not, another domain's list has begun
        self._snapshot.extent.unread.append(line.rstrip())

    def _take_back(self, port: int, line: str) -> None:
        """Forget a port whose line was broken in its last number: the rest of it is `line`."""
        if self._dom is not None:
            del self._snapshot.domains[self._dom][port]
            self._damage(line)

    def _lose_owner(self) -> None:
        """Stand in a list of nobody: the line that says whose it is was lost."""
        extent = self._snapshot.extent
        extent.headless, extent.to_end = True, False
        if self._last is not None:
            extent.damaged.add(self._last)
        self._dom = None

    def _take_fact(self, line: str) -> bool:
        snapshot = self._snapshot
        if (tsc := _TSC.match(line)) is not None:
            self._end()
            snapshot.hvm[int(tsc["dom"])] = tsc["hvm"] is not None
            if tsc["mode"] != _ALWAYS_EMULATED:
                snapshot.tsc_hz = int(tsc["khz"]) * 1000
        elif (clock := _PROCESSOR.match(line)) is not None:
            snapshot.tsc_hz = snapshot.tsc_hz or round(float(clock[1]) * 1_000_000)
        elif (start := _VCPUS_OF.match(line)) is not None:
            self._vcpus_of = int(start[1])
        elif (vcpu := _VCPU.match(line)) is not None and self._vcpus_of is not None:
            known = snapshot.vcpus.get(self._vcpus_of, frozenset())
            snapshot.vcpus[self._vcpus_of] = known | {int(vcpu[1])}
        else:
            return False
        return True

    def _damage(self, line: str) -> None:
        extent = self._snapshot.extent
        if extent.to_end or (self._dom is None and not extent.headless and self._is_foreign(line)):
            return  # not within a dump
        extent.unread.append(line.rstrip())
        self._snapshot.strange += 1
        if self._dom is not None:
            extent.damaged.add(self._dom)
        if "Event channel" in line or "Polling" in line:
            self._lose_owner()

    def _is_foreign(self, line: str) -> bool:
        return re.search(r"\]: s=\d|Event channel inf", line) is None

    def _end(self) -> None:
        if self._dom is not None:
            self._snapshot.extent.ended.add(self._dom)
            self._snapshot.extent.to_end = True
        self._dom = None


def _new_dump(*, from_start: bool) -> Snapshot:
    return Snapshot(extent=Extent(all_domains=True, from_start=from_start))
