"""Debug key e: several dumps in one log, what is missing from one, and facts of other keys."""

from evtrace.tracer.importers.debug_keys import parse_debug_keys, parse_dumps
from evtrace.tracer.importers.port_lines import read_numbers
from evtrace.tracer.importers.snapshots import parse_lsevtchn

HEADER = "Event channel information for domain {}:"
IPI = "   {} [0/0/0]: s=6 n=0 x=0"


def ports(*numbers):
    return [IPI.format(number) for number in numbers]


def test_every_dump_of_a_log_is_read_and_an_import_takes_the_last():
    pressed = "(XEN) 'e' pressed -> dumping event-channel info"
    lines = [
        pressed,
        HEADER.format(0),
        *ports(1, 2),
        "foreign",
        pressed,
        HEADER.format(0),
        *ports(3),
    ]

    dumps = parse_dumps(lines)

    assert [[1, 2], [3]] == [list(dump.domains[0]) for dump in dumps]
    assert [(True, True), (True, False)] == [
        (dump.extent.from_start, dump.extent.to_end) for dump in dumps
    ]
    assert dumps[1] == parse_debug_keys(lines)


def test_a_domain_that_comes_again_begins_another_dump():
    dumps = parse_dumps([HEADER.format(0), *ports(1), HEADER.format(1), HEADER.format(0)])

    assert [[0, 1], [0]] == [list(dump.domains) for dump in dumps]


def test_what_a_dump_certainly_lacks():
    dump = parse_debug_keys(
        ["'e' pressed", HEADER.format(0), *ports(1, 5), HEADER.format(4), *ports(2, 6)],
    )

    assert [True, False] == [dump.lacks_domain(dom) for dom in (3, 5)]  # the end may be cut
    assert [True, True] == [dump.lacks_port(0, port) for port in (4, 9)]
    assert [True, False, False] == [dump.lacks_port(4, port) for port in (5, 6, 9)]
    assert not dump.lacks_port(3, 1)


def test_a_dump_without_its_start_lacks_no_domain_before():
    dump = parse_debug_keys([*ports(7), HEADER.format(4), HEADER.format(6)])

    assert [False, False] == [dump.lacks_domain(dom) for dom in (3, 5)]
    assert dump.extent.is_cut

    quoted = parse_debug_keys([HEADER.format(4), HEADER.format(6)])
    assert [False, True] == [quoted.lacks_domain(dom) for dom in (3, 5)]


def test_a_line_without_what_its_state_calls_for_is_not_read():
    for line in (
        "   4 [0/0/0]: s=3 n=0 x=0 d=2",
        "   4 [0/0/0]: s=2 n=0 x=0",
        "   4 [0/0/0]: s=5 n=0 x=0",
        "   4 [0/0/0]: s=9 n=0 x=0",
        "   4 [0/0/0]: s=6 n=0 x=0 [   3.1] a kernel",
        "   4 [0/0/",
        "   4",
    ):
        dump = parse_debug_keys([HEADER.format(0), line])

        assert ({}, 1, {0}) == (dump.domains[0], dump.strange, dump.extent.damaged)
        assert [line] == dump.extent.unread


def test_busy_but_on_no_queue_is_not_linked():
    dump = parse_debug_keys([HEADER.format(0), "   4 [1/0/B -   ]: s=6 n=0 x=0"])

    assert (False, True) == (dump.domains[0][4].linked, dump.fifo[0])


def test_pollers_and_the_vcpus_that_key_q_lists():
    dump = parse_debug_keys(
        [
            HEADER.format(0),
            "(XEN) Polling vCPUs: {0,2-3}",
            "(XEN) 'q' pressed -> dumping domain info (now = 727929105981)",
            "(XEN) VCPU information and callbacks for domain 0:",
            "(XEN)     VCPU0: CPU3 [has=F] poll=0 upcall_pend=01 upcall_mask=01",
            "(XEN)     VCPU1: CPU1 [has=T] poll=0 upcall_pend=00 upcall_mask=00",
        ],
    )

    assert ({0: frozenset({0, 2, 3})}, {0: frozenset({0, 1})}) == (dump.polling, dump.vcpus)


def test_lists_of_bits_that_nobody_would_print():
    assert [1, 5] == list(read_numbers("1,,-3,3-4-5,9999999,5"))
    assert list(read_numbers("8190-99999"))[-1] == 8192


def test_lsevtchn_as_it_stands_in_a_terminal():
    text = ["[root@host ~]# lsevtchn 2", "   1: VCPU 0: IPI", "$ sudo lsevtchn 3", "   4: VCP"]

    snapshot = parse_lsevtchn(text)

    assert [2, 3] == list(snapshot.domains)
    assert ({2}, {3}) == (snapshot.extent.ended, snapshot.extent.damaged)
