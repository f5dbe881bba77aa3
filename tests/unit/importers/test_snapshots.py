"""Snapshots: lsevtchn and debug key e, as consoles really show them."""

from evtrace.tracer.importers.snapshots import Channel, parse_debug_keys, parse_lsevtchn
from evtrace.xen.abi import PortState

DUMP = """\
(XEN) [2022-03-03 10:11:12] 'e' pressed -> dumping event-channel info
(XEN) Event channel information for domain 0:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN) [2022-03-03 10:11:12]        1 [0/0/  -   ]: s=5 n=0 x=0 v=0
(XEN)        2 [1/1/  -   ]: s=6 n=1 x=0
[   12.3] something a kernel said in between
(XEN)       13 [1/0/  22  ]: s=3 n=1 x=0 d=2 p=28
       15 [0/0/  -   ]: s=4 n=1 x=0 p=9 i=24 Z=system_u
(XEN)       16 [0/1/?     ]: s=3 n=0 x=1 d=2 p=9
(XEN) Event channel information for domain 3:
(XEN)        1 [0/1/1]: s=2 n=0 x=0 d=0
(XEN)        2 [1/0/0]: s=5 n=0 x=0 v=0
(XEN) dom1: mode=2,ofs=0xc2dd1f16c,khz=2300000,inc=1
(XEN)        4 [0/0/  -"""


def test_a_dump_with_prefixes_noise_and_a_cut_end():
    snapshot = parse_debug_keys(DUMP.splitlines())

    assert {0: [1, 2, 13, 15, 16], 3: [1, 2]} == {
        dom: list(channels) for dom, channels in snapshot.domains.items()
    }
    assert {0: True, 3: False} == snapshot.fifo
    assert snapshot.tsc_hz == 2_300_000_000


def test_what_the_columns_mean():
    channels = parse_debug_keys(DUMP.splitlines()).domains[0]

    assert channels[2] == Channel(2, PortState.IPI, 1, pending=True, masked=True)
    assert channels[13] == Channel(
        13, PortState.INTERDOMAIN, 1, 2, 28, pending=True, masked=False, linked=True
    )
    assert channels[15] == Channel(15, PortState.PIRQ, 1, 9, 24, pending=False, masked=False)
    assert channels[16].xen_consumer


def test_the_two_level_selector_shows_as_linked():
    channels = parse_debug_keys(DUMP.splitlines()).domains[3]

    assert (True, False) == (channels[1].linked, channels[2].linked)


def test_lsevtchn():
    text = """\
# lsevtchn 1
   1: VCPU 0: Interdomain (Connected) - Remote Domain 0, Port 30
   3: VCPU 2: Virtual IRQ 0
   4: VCPU 0: IPI
   8: VCPU 0: Interdomain (Waiting connection) - Remote Domain 5
   9: VCPU 1: Physical IRQ 438
  10: VCPU 1: Unknown
"""
    snapshot = parse_lsevtchn(text.splitlines())

    assert snapshot.domains[1] == {
        1: Channel(1, PortState.INTERDOMAIN, 0, 0, 30),
        3: Channel(3, PortState.VIRQ, 2, 0),
        4: Channel(4, PortState.IPI, 0),
        8: Channel(8, PortState.UNBOUND, 0, 5),
        9: Channel(9, PortState.PIRQ, 1, 438),
    }
    assert (1, {2: 3}) == (snapshot.strange, snapshot.timer_ports(1))


def test_a_domain_without_channels_is_known_to_have_none():
    assert parse_lsevtchn(["# lsevtchn 4"]).domains == {4: {}}
    assert parse_lsevtchn([], dom=7).domains == {7: {}}


def test_two_sources_of_one_time_are_one_snapshot():
    dump = parse_debug_keys(DUMP.splitlines())
    listed = parse_lsevtchn(["# lsevtchn 3", "   1: VCPU 0: IPI", "   9: VCPU 0: IPI"])

    disagreements = dump.merge(listed)

    assert ["d3:1", "d3:2", "d3:9"] == disagreements
    assert dump.domains[3][1].state is PortState.UNBOUND  # the dump shows more, so it wins


def test_what_xen_logs_at_its_start_tells_the_rate_of_the_tsc():
    log = ["(XEN) Platform timer is 100.000MHz HPET", "(XEN) Detected 2596.122 MHz processor."]

    assert 2_596_122_000 == parse_debug_keys(log).tsc_hz
