"""Each fault, the finding that names it, and that the right party is blamed."""

from pathlib import Path

import pytest

from evtrace.api import Trace
from evtrace.errors import UsageError
from evtrace.tracer.emulator.catalogue import find_scenario
from evtrace.tracer.emulator.faults import FAULTS, Place, find_fault, inject
from evtrace.tracer.emulator.lab import Lab, Settings
from evtrace.tracer.emulator.linux import handler_of
from evtrace.tracer.emulator.session import record
from evtrace.verdicts import Blame, Cause, Fate, FindingCode
from evtrace.xen.abi import FormName
from tests.emulator.consistency import compare, read_entries, read_truth

FIFO, TWO_LEVEL = FormName.FIFO, FormName.TWO_LEVEL
BOTH = (FIFO, TWO_LEVEL)
OWN = Path(__file__).parents[2] / "traces" / "scenarios" / "closed_while_pending.py"
closed_while_pending = find_scenario(f"{OWN}:closed_while_pending")
LIMIT = 0.03
"""Seconds; some faults keep a guest busy for ever."""


def two_ports(lab: Lab) -> None:
    """Two domains notify each other now and then, by their timers."""
    dom0, dom_u = lab.domain("dom0", 0), lab.domain("domU")
    offer = lab.mailbox()

    def receive():
        port = yield dom_u.alloc_unbound(0)
        irq = yield dom_u.bind_evtchn_to_irqhandler(port, handler_of(), "receiver")
        offer.put(port)
        for _ in range(40):
            yield dom_u.sleep(0.0003)
            yield dom_u.notify_remote_via_irq(irq)

    def send():
        port = yield offer.get(dom0)
        irq = yield dom0.bind_interdomain_evtchn_to_irqhandler(1, port, handler_of(), "sender")
        for _ in range(8):
            yield dom0.sleep(0.001)
            yield dom0.notify_remote_via_irq(irq)

    lab.start(dom_u, receive())
    lab.start(dom0, send())


def scenario_of(scenario):
    return find_scenario(scenario) if isinstance(scenario, str) else scenario


class Played:
    """A recording with a fault: its verdicts, and where they differ from the truth."""

    def __init__(self, folder, fault, scenario, **settings):
        lab = Lab(Settings(**settings))
        inject(lab, [fault] if fault else [])
        path, truth = folder / "t.bin", folder / "t.jsonl"
        played = scenario_of(scenario)
        record(lab, played, path, source="test", truth=truth, limit=LIMIT, force=True)
        with Trace(path) as trace:
            self.results, self._entries = trace.replay(), read_entries(trace)
        self._truth = read_truth(truth)

    def differences(self):
        return compare(self.results, self._entries, self._truth)

    def wrong_claims(self):
        """List verdicts that say something, and something that is not true."""
        for run in self.results.runs:
            true = self._truth.runs[f"d{run.dom}:{run.port}", run.tsc]
            if run.cause is not Cause.UNKNOWN and run.cause != true["cause"]:
                yield f"run of d{run.dom}:{run.port} at {run.tsc}: {run.cause}, not {true['cause']}"
        for send in self.results.sends:
            true = self._truth.sends[f"d{send.dom}:{send.port}", self._entries[send.seq]]
            if send.fate is not Fate.UNKNOWN and send.fate != true["fate"]:
                yield f"send on d{send.dom}:{send.port} at {send.tsc}: {send.fate}, not {true}"

    def codes(self):
        return [found.code for found in self.results.findings]


XEN_FAULTS = [
    ("no-pending-at-bind", "pingpong", BOTH, FindingCode.NO_PENDING_AT_BIND),
    ("lost-send", "pingpong", BOTH, FindingCode.LOST_SEND),
    ("lost-send@0.002", two_ports, BOTH, FindingCode.LOST_SEND),
    ("lost-send@0.0005", "pingpong", BOTH, FindingCode.NOT_DELIVERED),
    ("lost-upcall@0.002", two_ports, BOTH, FindingCode.LOST_UPCALL),
    ("lost-upcall@0.0004", "pingpong", BOTH, FindingCode.NOT_DELIVERED),
    ("wrong-port@0.0005", "pingpong", BOTH, FindingCode.WRONG_PORT),
    ("pending-kept-over-close", closed_while_pending, BOTH, FindingCode.PENDING_KEPT_OVER_CLOSE),
    ("unmask-without-reraise", "pingpong", (FIFO,), FindingCode.UNMASK_WITHOUT_RERAISE),
    ("unmask-without-reraise", "migrate", (FIFO,), FindingCode.UNMASK_WITHOUT_RERAISE),
]


NEARLY = {FindingCode.WRONG_PORT: FindingCode.SET_FOR_NOBODY}
"""What is said where another send to the right port hides that the first one went astray."""


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("pvh", [False, True], ids=["pv", "pvh"])
@pytest.mark.parametrize(
    ("fault", "scenario", "form", "code"),
    [
        pytest.param(fault, scenario, form, code, id=f"{fault}-{form}-{code}")
        for fault, scenario, forms, code in XEN_FAULTS
        for form in forms
    ],
)
def test_a_fault_of_the_hypervisor_is_named_and_nobody_else_blamed(
    fault, scenario, form, code, pvh, seed, tmp_path
):
    played = Played(tmp_path, fault, scenario, form=form, pvh=pvh, seed=seed, chaos=seed > 0)

    assert set(played.codes()) in ({code}, {NEARLY.get(code)})
    assert {Blame.HYPERVISOR} == {found.blame for found in played.results.findings}
    if code is not FindingCode.WRONG_PORT:
        assert played.differences() == []


GUEST_FAULTS = [
    ("forgets-to-clear@0.0003", "pingpong", BOTH, FindingCode.NOT_CLEARED),
    ("forgets-to-clear@0.0003", "netfront", BOTH, FindingCode.NOT_CLEARED),
    ("never-unmasks", "pingpong", BOTH, FindingCode.NEVER_UNMASKED),
    ("never-unmasks", "blkfront", BOTH, FindingCode.NEVER_UNMASKED),
    ("double-handling@0.0003", "pingpong", BOTH, FindingCode.DOUBLE_HANDLE),
    ("double-handling@0.0003", "netfront", BOTH, FindingCode.DOUBLE_HANDLE),
    ("no-vcpu-mask", "ipi", (TWO_LEVEL,), FindingCode.WRONG_VCPU),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("pvh", [False, True], ids=["pv", "pvh"])
@pytest.mark.parametrize(
    ("fault", "scenario", "form", "code"),
    [
        pytest.param(fault, scenario, form, code, id=f"{fault}-{scenario}-{form}")
        for fault, scenario, forms, code in GUEST_FAULTS
        for form in forms
    ],
)
def test_a_fault_of_a_guest_is_blamed_on_the_guest(
    fault, scenario, form, code, pvh, seed, tmp_path
):
    played = Played(tmp_path, fault, scenario, form=form, pvh=pvh, seed=seed, chaos=seed > 0)

    assert {code} == set(played.codes())
    assert {Blame.GUEST} == {found.blame for found in played.results.findings}
    assert played.differences() == []


CAPTURE_FAULTS = [name for name, fault in FAULTS.items() if fault.place is Place.CAPTURE]
SCENARIOS = ("pingpong", "port-reuse", "migrate", "netfront", "peer-close")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fault", CAPTURE_FAULTS)
def test_a_fault_of_the_capture_takes_claims_away_and_adds_none(
    fault, scenario, form, seed, tmp_path
):
    played = Played(tmp_path, fault, scenario, form=form, seed=seed, chaos=seed > 0)

    assert list(played.wrong_claims()) == []
    assert played.results.divergences == []
    assert not played.results.has_fault


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("lost-records", FindingCode.RECORDS_LOST),
        ("ring-overflow", FindingCode.RECORDS_LOST),
        ("tsc-skew", FindingCode.CLOCKS_DISAGREE),
        ("tsc-drift", FindingCode.CLOCKS_DISAGREE),
    ],
)
def test_a_fault_of_the_capture_is_said(fault, code, tmp_path):
    played = Played(tmp_path, fault, "pingpong")

    assert [code] == played.codes()
    assert {Blame.CAPTURE} == {found.blame for found in played.results.findings}


def test_the_fault_is_found_at_its_first_place(tmp_path):
    played = Played(tmp_path, "lost-send@0.002", two_ports)
    (found,) = played.results.findings
    lost = [send for send in played.results.sends if send.fate is Fate.LOST]

    assert [found.seq] == [send.seq for send in lost]
    assert [(found.dom, found.port)] == [(send.to_dom, send.to_port) for send in lost]


@pytest.mark.parametrize("scenario", [two_ports, closed_while_pending])
@pytest.mark.parametrize("form", BOTH)
def test_without_a_fault_nothing_is_found(scenario, form, tmp_path):
    played = Played(tmp_path, "", scenario, form=form, seed=3, chaos=True)

    assert played.codes() == []
    assert played.differences() == []


def test_the_documentation_names_every_fault_and_every_finding():
    text = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()

    assert [name for name in [*FAULTS, *FindingCode.__members__] if f"`{name}`" not in text] == []


def test_every_fault_is_listed_with_a_line():
    assert all(fault.summary and fault.name == name for name, fault in FAULTS.items())
    assert len({fault.place for fault in FAULTS.values()}) == len(Place)


@pytest.mark.parametrize(
    ("spec", "says"), [("lost-sent", "did you mean lost-send?"), ("lost-send@soon", "NAME@SECONDS")]
)
def test_a_fault_that_does_not_exist_is_refused(spec, says):
    with pytest.raises(UsageError, match=says):
        inject(Lab(), [spec])


def test_a_fault_is_found_by_name():
    assert find_fault("wrong-port").place is Place.HYPERVISOR


@pytest.mark.parametrize("fault", [fault.name for fault in FAULTS.values()])
def test_every_fault_can_be_injected_before_there_is_a_domain(tmp_path, fault):
    """`boot` records from nothing; a guest's fault then is the first domU's."""
    lab = Lab(Settings(form=FormName.FIFO))
    inject(lab, [fault])
    path = tmp_path / "t.bin"
    record(lab, find_scenario("boot"), path, source="boot")
    with Trace(path) as trace:
        found = trace.replay().findings

    if fault in {"forgets-to-clear", "never-unmasks", "double-handling"}:
        assert found[0].blame is Blame.GUEST
        assert found[0].dom == 1
