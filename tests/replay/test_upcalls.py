"""Why upcalls were empty: timelines that produce each verdict, and what withholds it."""

import pytest

from evtrace.replay import upcalls
from evtrace.timeline import Kind, RecordClass
from evtrace.verdicts import UpcallVerdict
from evtrace.xen.abi import (
    EvtchnOp,
    HYPERVISOR_hvm_op,
    HYPERVISOR_vcpu_op,
    VCPUOP_register_vcpu_info,
)
from tests.timeline_builder import Script, connected


def upcall(script, start, end, dom=0, vcpu=0):
    script.add(start, Kind.UPCALL_ENTER, dom, vcpu)
    script.add(end, Kind.UPCALL_EXIT, dom, vcpu)


def only_empty(script, *missing):
    (empty,) = script.replay(*missing).empty
    return empty


def raised_seen(script):
    """Replay where the raising of VIRQs was captured, too."""
    return script.replay(raises=True)


def registered():
    script = connected()
    words = {"op": HYPERVISOR_vcpu_op, "a0": VCPUOP_register_vcpu_info, "a1": 1}
    script.add(10, Kind.HYPERCALL, 0, 0, **words)
    upcall(script, 20, 21, vcpu=1)
    return script


def test_the_first_upcall_after_a_vcpu_info_is_registered():
    empty = only_empty(registered())

    assert (UpcallVerdict.VCPU_INFO_REGISTER, "observed") == (empty.verdict, empty.evidence)
    assert (0, 1, 20, 21) == (empty.dom, empty.vcpu, empty.tsc, empty.exit_tsc)


def test_only_the_first_one_is_explained_by_it():
    script = registered()
    upcall(script, 30, 31, vcpu=1)

    verdicts = [empty.verdict for empty in script.replay().empty]

    assert [UpcallVerdict.VCPU_INFO_REGISTER, UpcallVerdict.UNKNOWN] == verdicts


def hvm_starts(*, created=True):
    script = Script()
    if created:
        script.add(5, Kind.DOMAIN_CREATED, 1, 0xFFFF, a0=1)
    script.add(10, Kind.HYPERCALL, 1, 0, op=HYPERVISOR_vcpu_op)
    upcall(script, 20, 21, dom=1)
    return script


@pytest.mark.parametrize(
    ("created", "verdict"),
    [(True, UpcallVerdict.VCPU_INFO_REGISTER), (False, UpcallVerdict.UNKNOWN)],
)
def test_without_arguments_it_is_inferred_for_a_vcpu_that_starts(created, verdict):
    empty = only_empty(hvm_starts(created=created))

    assert verdict is empty.verdict
    assert empty.evidence.startswith("inferred") == created


def after_an_hvm_op():
    script = connected()
    script.add(10, Kind.HYPERCALL, 0, 0, op=HYPERVISOR_hvm_op)
    upcall(script, 20, 21)
    return script


def test_the_first_upcall_after_an_hvm_op():
    (empty,) = after_an_hvm_op().replay(hvm=[0]).empty

    assert UpcallVerdict.CALLBACK_SET is empty.verdict
    assert empty.evidence.startswith("inferred(an hvm_op")


def test_a_pv_guests_hvm_op_is_about_others():
    assert only_empty(after_an_hvm_op()).verdict is UpcallVerdict.UNKNOWN


def masked_by_now():
    script = connected()
    script.send(10, 12, 1, dom=1)
    script.add(15, Kind.MASK, port=1)
    upcall(script, 20, 22)
    return script


def test_what_announced_it_is_passed_over():
    empty = only_empty(masked_by_now())

    assert (UpcallVerdict.PASSED_OVER, "d0:1 is pending, but masked by now") == (
        empty.verdict,
        empty.reason,
    )


def test_a_port_that_an_upcall_takes_off_its_queue_is_passed_over():
    script = masked_by_now()
    script.add(21, Kind.CONSUME, port=1)
    upcall(script, 30, 33)
    script.add(31, Kind.CONSUME, port=1)

    assert [UpcallVerdict.PASSED_OVER] * 2 == [up.verdict for up in script.replay().empty]


@pytest.mark.parametrize("lost", [RecordClass.MEMORY, RecordClass.QUEUE])
def test_without_its_accesses_to_memory_it_is_unknown(lost):
    empty = only_empty(masked_by_now(), (0, lost))

    assert (UpcallVerdict.UNKNOWN, f"no {lost.name} of d0") == (empty.verdict, empty.reason)


def taken(how):
    script = connected()
    script.send(10, 12, 1, dom=1)
    how(script)
    upcall(script, 30, 31)
    return script


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda script: script.run(20, 1, vcpu=1), "d0:1 announced it and was handled on v1"),
        (
            lambda script: script.call(20, 21, EvtchnOp.CLOSE, 1, vcpu=1),
            "d0:1 announced it and was closed before it came",
        ),
        (
            lambda script: script.add(20, Kind.CLEAR, 0, 0, port=1),
            "d0:1 announced it and was taken before it came",
        ),
    ],
)
def test_somebody_took_what_announced_it(how, reason):
    empty = only_empty(taken(how))

    assert (UpcallVerdict.EMPTY_UPCALL, reason) == (empty.verdict, empty.reason)


def test_nothing_announced_it():
    script = connected()
    upcall(script, 20, 21)

    (seen,) = raised_seen(script).empty
    unseen = only_empty(script)

    assert UpcallVerdict.EMPTY_UPCALL is seen.verdict
    assert (UpcallVerdict.UNKNOWN, "no RAISE of d0") == (unseen.verdict, unseen.reason)


def test_all_are_counted_and_the_first_ones_listed(monkeypatch):
    monkeypatch.setattr(upcalls, "MAX_EMPTY_UPCALLS", 2)
    script = registered()
    for tsc in range(30, 60, 10):
        upcall(script, tsc, tsc + 1, vcpu=1)

    results = script.replay()

    assert [20, 30] == [empty.tsc for empty in results.empty]
    assert {
        (0, UpcallVerdict.VCPU_INFO_REGISTER): 1,
        (0, UpcallVerdict.UNKNOWN): 3,
    } == results.upcall_verdicts
    assert results.empty_upcalls[0] == 4


def test_the_table_has_a_row_for_each():
    frame = registered().replay().upcalls_frame()

    assert ["VCPU_INFO_REGISTER"] == frame["verdict"].to_list()
    assert [20] == frame["tsc"].to_list()


def test_what_rests_on_the_order_of_records_is_withheld():
    results = registered().replay()
    results.withhold("the clocks disagree")

    assert [(UpcallVerdict.UNKNOWN, "the clocks disagree")] == [
        (up.verdict, up.reason) for up in results.empty
    ]
    assert {(0, UpcallVerdict.UNKNOWN): 1} == results.upcall_verdicts
