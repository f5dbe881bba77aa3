"""The doctor on any state that the model can be in: no crash, and no stuck port missed."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from evtrace.guest import bits
from evtrace.replay.doctor.examination import Diagnosis, examine
from evtrace.replay.state import dump_domain
from evtrace.tracer.importers.recognition import read_snapshots
from evtrace.xen.abi import FormName
from evtrace.xen.machine import Machine
from tests.property.test_model import DOMAINS, new_machine, wild

TAILS = {"EVT101", "EVT102"}
WRITES = (bits.mask, bits.clear_mask, bits.set_pending, bits.clear_pending)
forms = st.sampled_from(FormName)
writes = st.lists(
    st.tuples(st.sampled_from(WRITES), st.integers(0, DOMAINS - 1), st.integers(1, 9)),
    max_size=12,
)
texts = st.lists(
    st.sampled_from(
        [
            "(XEN) 'e' pressed -> dumping event-channel info",
            "Event channel information for domain 0:",
            "Event channel information for domain 3:",
            "Event channel info",
            "Polling vCPUs: {0,2-}",
            "Polling vCPUs: {1-3}",
            "   4 [1/0/  -   ]: s=3 n=0 x=0 d=3 p=1",
            "   1 [1/0/0]: s=3 n=0 x=0 d=0 p=4",
            "   7 [1/1/?     ]: s=6 n=70000 x=0",
            "   8 [1/0/B 99  ]: s=9 n=0 x=0",
            "   9 [1/",
            "   5: VCPU 0: IPI",
            "   6: VCPU 0: Unknown",
            "# lsevtchn 3",
            "port    2: vcpu: 0 virq(-1) PENDING",
            '{"port": 1, "vcpu": 0, "type": "ipi", "target": 0, "pending": true, "masked": false}',
            '{"port": null, "vcpu": 0}',
            "No domains have emulated TSC",
            "",
        ],
    ),
    max_size=14,
)


def as_dump(machine: Machine) -> str:
    lines = ["'e' pressed -> dumping event-channel info"]
    for domain in machine.domains.values():
        lines += dump_domain(domain, {})
    return "\n".join(f"(XEN) {line}" for line in [*lines, "No domains have emulated TSC", ""])


def diagnose(text: str) -> Diagnosis:
    return examine(read_snapshots("dump", text, None))


def not_announced(machine: Machine) -> Iterator[str]:
    """Name the ports that wait for an event that nothing will deliver."""
    for domain in machine.domains.values():
        for port in domain.ports:
            number, form = port.number, domain.form
            if port.usable and form.pending(number) and not form.masked(number):
                vcpu = domain.vcpus[port.notify_vcpu]
                selected = vcpu.selector >> number // domain.word_bits & 1
                if not (form.linked(number) if domain.fifo else selected):
                    yield f"d{domain.domid}:{number}"


@given(forms, wild, writes)
def test_every_port_that_nothing_announces_is_found_and_no_other(form, program, raw):
    machine = new_machine(form)
    for action in program:
        action.run(machine)
    for write, dom, port in raw:
        write(machine.domains[dom], port)

    found = diagnose(as_dump(machine)).findings

    assert [one.where for one in found if one.code.value in TAILS] == list(not_announced(machine))


@given(forms, wild)
def test_a_machine_that_xen_alone_ran_has_no_broken_ends(form, program):
    machine = new_machine(form)
    for action in program:
        action.run(machine)

    codes = {one.code.name for one in diagnose(as_dump(machine)).findings}

    broken = {"PEER_DOMAIN_GONE", "PEER_PORT_CLOSED", "PEER_UNCONNECTED", "PEER_ELSEWHERE"}
    assert not codes & (broken | {"DUPLICATE_VIRQ", "UNSETTLED"})


@given(texts, st.booleans())
def test_no_text_breaks_it(lines, ended):
    text = "\n".join(["Event channel information for domain 0:", *lines]) + "\n" * ended

    found = diagnose(text + "\n   5 [0/0/0]: s=6 n=0 x=0\n# lsevtchn 0\n")

    assert found.verdict
