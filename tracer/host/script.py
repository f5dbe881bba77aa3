"""A shell script that records in a domain without Python: POSIX sh, busybox is enough.

It sets the probes, records, prints the ftrace text at its end (printing makes events of its own,
where the output is a console of Xen's), and takes everything down.
"""

import shlex
from collections.abc import Iterator

from evtrace.tracer.host.code import Code
from evtrace.tracer.host.probes import (
    GROUP,
    IRQ_EVENTS,
    Probe,
    call_probes,
    function_probes,
    traced_functions,
)
from evtrace.tracer.host.sites import find_sites
from evtrace.tracer.host.tracefs import CLOCK

_HEAD = """\
#!/bin/sh
# Records the event channels of this domain and prints what `evtrace import --ftrace DOM=` reads.
#     sh {name} [SECONDS] > ftrace.txt
# Without SECONDS until it gets SIGINT or SIGTERM. Takes root. EVTRACE_BUFFER_KB is the size of the
# buffer of each CPU, {buffer_kb} unless set. Written by `evtrace record --script` for
#     {banner}
kernel={kernel}
tracing=/sys/kernel/tracing
own=$tracing/instances/{group}

say() {{ echo "evtrace: $*" >&2; }}

if [ -n "$kernel" ] && [ "$(cat /proc/version)" != "$kernel" ] && [ -z "$EVTRACE_ANY_KERNEL" ]; then
    say "this script is for another kernel: $kernel"
    exit 69
fi
[ -e $tracing/trace_clock ] || mount -t tracefs nodev $tracing 2>/dev/null
if ! [ -w $tracing/kprobe_events ]; then
    say "no kernel probes here: it takes root, tracefs and CONFIG_KPROBE_EVENTS"
    exit 69
fi
if [ -e $own ]; then
    say "another recorder runs here, or was killed: rmdir $own"
    exit 69
fi

take_down() {{
    trap '' INT TERM HUP
    echo 0 > $own/tracing_on
    [ -e $own/events/{group} ] && echo 0 > $own/events/{group}/enable
    echo nop > $own/current_tracer
    rmdir $own
    sed -n 's|^[pr][0-9]*:\\({group}/[^ ]*\\).*|\\1|p' $tracing/kprobe_events |
        while read -r name; do echo "-:$name" >> $tracing/kprobe_events; done
}}
refused=0
probe() {{ # NAME DEFINITION [FILTER]
    if printf '%s\\n' "$2" 2>/dev/null >> $tracing/kprobe_events; then
        [ -z "$3" ] || echo "$3" > $own/events/{group}/$1/filter
        echo 1 > $own/events/{group}/$1/enable && return
    fi
    say "refused: $1"
    refused=$((refused + 1))
}}
follow() {{ echo "$1" 2>/dev/null >> $own/set_ftrace_filter && followed=1; }}

mkdir $own || exit 69
trap take_down EXIT
trap 'exit 130' INT TERM HUP
echo 0 > $own/tracing_on
echo {clock} > $own/trace_clock
echo "${{EVTRACE_BUFFER_KB:-{buffer_kb}}}" > $own/buffer_size_kb
"""

_TAIL = """\
[ -z "$followed" ] || echo function > $own/current_tracer

waiting=
trap 'waiting=over; [ -z "$sleeper" ] || kill $sleeper 2>/dev/null' INT TERM HUP
echo 1 > $own/tracing_on
say "recording; $refused probes refused"
while [ -z "$waiting" ]; do
    sleep "${1:-3600}" &
    sleeper=$!
    wait $sleeper
    [ -z "$1" ] || waiting=over
done
echo 0 > $own/tracing_on
cat $own/trace
"""


def write_script(code: Code, name: str, buffer_kb: int) -> str:
    """Give the script for a kernel. Raises `CannotRecordError` if capstone is missing."""
    found = find_sites(code)
    head = _HEAD.format(
        name=name,
        banner=code.banner or "an unknown kernel",
        kernel=shlex.quote(code.banner),
        group=GROUP,
        clock=CLOCK,
        buffer_kb=buffer_kb,
    )
    probes = [*call_probes(found.sites, code.origin), *function_probes(code)]
    lines = [*map(_probe_line, probes), *_others(code)]
    return "\n".join([head, *lines, _TAIL])


def _probe_line(probe: Probe) -> str:
    words = [probe.name, probe.definition, *filter(None, [probe.filter])]
    return " ".join(["probe", *map(shlex.quote, words)])


def _others(code: Code) -> Iterator[str]:
    for function in traced_functions(code):
        yield f"follow {function}"
    for event in IRQ_EVENTS:
        yield f"echo 1 > $own/events/{event}/enable"
