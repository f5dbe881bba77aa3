"""A trace whose every string wants to be obeyed: by a browser, or by a terminal."""

from evtrace.timeline import Kind, RecordClass
from evtrace.tracefile.family import (
    ALL_DOMAINS,
    ALL_VCPUS,
    FACTS_STREAM,
    FAMILY_VERSION,
    FactKey,
    TextPurpose,
)
from evtrace.tracefile.records import encode_coverage, encode_fact, encode_family, encode_text
from evtrace.xen.abi import EvtchnOp
from tests.tinytrace import RUNNABLE, RUNNING, runstate, tiny_trace, window

TAGS = '<img src=x onerror="window.__hacked=1"><script>window.__hacked=1</script>'
ENDS = "</script></style></title></textarea>--><svg onload=window.__hacked=1>'\"&lt;"
ESCAPES = "\x1b]0;hacked\x07\x1b[2J\x1b[31mred\x9b31m\x08"
DIRECTIONS = "\u202egnp.exe\u2066\u200f"
LINES = "one\ntwo\r\tthree\u2028four"
EVERYTHING = (TAGS, ENDS, ESCAPES, DIRECTIONS, LINES)
FILE_NAME = "<img src=x onerror=window.__hacked=1>\x1b[31m\u202e.bin"
SEEN = RecordClass.CALL | RecordClass.UPCALL | RecordClass.HANDLER | RecordClass.MEMORY


def hostile_trace() -> bytes:
    """Give the trace: d1:8 sends to d0:33, twice; all names and log lines are hostile."""
    facts = [
        encode_fact(FactKey.FORMAT_VERSION, ALL_DOMAINS, FAMILY_VERSION, tsc=1),
        encode_fact(FactKey.TSC_HZ, ALL_DOMAINS, 2_000_000_000, 1, tsc=1),
    ]
    for dom in (0, 1):
        name = "".join(EVERYTHING[dom::2])
        facts += [
            encode_coverage(dom, ALL_VCPUS, SEEN, 1, 10_000, tsc=1),
            encode_text(TextPurpose.DOMAIN_NAME, name, dom=dom, tsc=1),
            encode_text(TextPurpose.IRQ_NAME, f"52 {name}", dom=dom, tsc=1),
        ]
    for text in EVERYTHING:
        facts += [
            encode_text(TextPurpose.SOURCE, text, dom=ALL_DOMAINS, tsc=2),
            encode_text(TextPurpose.UNPARSED, text, dom=0, tsc=2),
        ]
    facts += [
        encode_text(TextPurpose.LOG, text, dom=0, vcpu=0, tsc=1_500 + 300 * place)
        for place, text in enumerate(EVERYTHING)
    ]
    happens = [runstate(0, 0, RUNNABLE, RUNNING, tsc=100)]
    happens += [record for start in (1_000, 3_000) for record in _delivery(start)]
    return tiny_trace(window(0, *happens), window(FACTS_STREAM, *facts))


def _delivery(start: int) -> list[bytes]:
    call = EvtchnOp.SEND | start << 8
    return [
        encode_family(Kind.CALL_ENTER, 1, 0, [call, 8], start),
        encode_family(Kind.CALL_EXIT, 1, 0, [call, 0], start + 100),
        encode_family(Kind.UPCALL_ENTER, 0, 0, [], start + 300),
        encode_family(Kind.CLEAR, 0, 0, [33], start + 310),
        encode_family(Kind.HANDLER_ENTER, 0, 0, [52, 33], start + 400),
        encode_family(Kind.HANDLER_EXIT, 0, 0, [52, 33, 1], start + 600),
        encode_family(Kind.UPCALL_EXIT, 0, 0, [], start + 700),
    ]
