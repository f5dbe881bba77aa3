"""Live conformance: what differs is found, others' ports are left alone, own ones are closed.

A model plays the running Xen here; tests/lab asks a real one.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtrace.errors import CannotRecordError
from evtrace.replay.conform.fence import Fence, OutsideFenceError
from evtrace.replay.conform.live import Aspect, judge_live
from evtrace.replay.conform.survey import survey
from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, FormName, PortState, PortStatus
from evtrace.xen.machine import Answer
from evtrace.xen.profiles import find_profile
from tests.live_xen import DoorBrokenError, LiveXen

FORMS = list(FormName)
PROFILES = ["4.5", "4.9", "4.17", "HEAD"]


def judge(xen, operations=600, **more):
    profile = more.pop("profile", xen.profile)
    return judge_live(xen, profile, running=range(xen.vcpus), operations=operations, **more)


# What is the same


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PROFILES)
def test_a_xen_that_is_the_model_has_no_difference(name, form):
    xen = LiveXen(form, find_profile(name))
    report = judge(xen, 2_000)

    assert report.differences == []
    assert report.operations >= 2_000
    assert (report.place.domid, report.place.form, report.place.vcpus) == (0, form, 2)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1 << 40),
    form=st.sampled_from(FORMS),
    busy=st.floats(0, 0.5),
    vcpus=st.integers(1, 5),
    domid=st.sampled_from([0, 3]),
)
def test_others_are_neither_touched_nor_taken_for_a_difference(seed, form, busy, vcpus, domid):
    xen = LiveXen(form, vcpus=vcpus, busy=busy, seed=seed, domid=domid)
    report = judge(xen, 300, seed=seed)

    assert report.passed, report.differences
    assert all(state != PortState.FREE for state in xen.kernels_state.values())
    assert xen.strays == []
    assert xen.disturbed == []


def test_the_same_seed_asks_the_same_whatever_others_do():
    quiet, busy = (judge(LiveXen(busy=share, seed=5), seed=7).answers for share in (0, 0.4))
    assert quiet == busy


def test_every_operation_is_asked_with_success_and_with_errors():
    report = judge(LiveXen(), 10_000)
    results: dict[str, set[str]] = {}
    for name, result in report.answers:
        results.setdefault(name, set()).add(result)

    expected = {
        "alloc_unbound": {"0", "ESRCH", "EFAULT"},
        "bind_interdomain": {"0", "EINVAL", "ESRCH", "EFAULT"},
        "bind_ipi": {"0", "ENOENT", "EFAULT"},
        "bind_virq": {"0", "EINVAL", "ENOENT", "EEXIST", "EFAULT"},
        "bind_pirq": {"EINVAL"},
        "bind_vcpu": {"0", "EINVAL", "ENOENT", "EFAULT"},
        "send": {"0", "EINVAL", "EFAULT"},
        "status": {"0", "EINVAL", "ESRCH", "EFAULT"},
        "set_priority": {"0", "EACCES", "EINVAL", "EFAULT"},
        "close": {"0", "EINVAL", "EFAULT"},
        "unmask": {"EINVAL"},
        "init_control": {"EINVAL", "ENOENT"},
        "expand_array": {"EINVAL"},
        "unknown_op": {"ENOSYS"},
    }
    assert set(expected) == set(results)
    assert {name: found - results[name] for name, found in expected.items()} == {
        name: set() for name in expected
    }


# What differs


def refuse(op, errno):
    """Have Xen refuse what it has not done."""

    def alter(_xen, command, _args, answer):
        return Answer(-errno) if command == op and answer.ret == 0 else answer

    return alter


def accept(op, out=()):
    """Have Xen say that it did what it refused."""

    def alter(_xen, command, _args, answer):
        return Answer(0, out) if command == op and answer.ret < 0 else answer

    return alter


def other_errno(op):
    def alter(_xen, command, _args, answer):
        return Answer(-Errno.EACCES) if command == op and answer.ret < 0 else answer

    return alter


def status_with(place, change):
    """Have one output of every status of an interdomain port changed."""

    def alter(_xen, command, _args, answer):
        if command != EvtchnOp.STATUS or answer.out[:1] != (PortStatus.INTERDOMAIN,):
            return answer
        out = [change(v) if index == place else v for index, v in enumerate(answer.out)]
        return Answer(answer.ret, tuple(out))

    return alter


def bare_status(_xen, command, _args, answer):
    """Have every open port look closed."""
    return Answer(0, (0, 0)) if command == EvtchnOp.STATUS and answer.ret == 0 else answer


def close_keeps_the_peer(xen, command, args, answer):
    """Have a closed port's peer stay bound."""
    if command == EvtchnOp.CLOSE and answer.ret == 0:
        for port in xen.domain.ports:
            if port.state == PortState.UNBOUND and port.remote_port == args[0]:
                port.state = PortState.INTERDOMAIN
    return answer


def bind_vcpu_does_nothing(xen, command, args, answer):
    if command == EvtchnOp.BIND_VCPU and answer.ret == 0:
        xen.domain.ports[args[0]].notify_vcpu = 0
    return answer


def closed_ports_keep_their_vcpu(xen, command, args, answer):
    if command == EvtchnOp.CLOSE and answer.ret == 0:
        xen.domain.ports[args[0]].notify_vcpu = 1
    return answer


def the_second_lowest_port_is_given(xen, command, args, answer):
    """Have Xen pass over the lowest free port."""
    if command == EvtchnOp.BIND_IPI and answer.ret == 0:
        second = xen.do(EvtchnOp.BIND_IPI, *args).out
        xen.do(EvtchnOp.CLOSE, *answer.out)
        return Answer(0, second)
    return answer


WRONG = {
    "send refused": (refuse(EvtchnOp.SEND, Errno.EINVAL), Aspect.RESULT),
    "set_priority refused": (refuse(EvtchnOp.SET_PRIORITY, Errno.EACCES), Aspect.RESULT),
    "bad vcpu accepted": (accept(EvtchnOp.BIND_VCPU), Aspect.RESULT),
    "bad port sent on": (accept(EvtchnOp.SEND), Aspect.RESULT),
    "other errno of bind_interdomain": (other_errno(EvtchnOp.BIND_INTERDOMAIN), Aspect.RESULT),
    "other errno of bind_virq": (other_errno(EvtchnOp.BIND_VIRQ), Aspect.RESULT),
    "other errno of bind_ipi": (other_errno(EvtchnOp.BIND_IPI), Aspect.RESULT),
    "other errno of unmask": (other_errno(EvtchnOp.UNMASK), Aspect.RESULT),
    "every status closed": (bare_status, Aspect.STATUS),
    "status with another vcpu": (status_with(1, lambda vcpu: vcpu + 1), Aspect.STATUS),
    "status with another domain": (status_with(2, lambda dom: dom + 1), Aspect.STATUS),
    "status with another peer": (status_with(3, lambda port: port + 1), Aspect.STATUS),
    "close keeps the peer": (close_keeps_the_peer, Aspect.OUTPUTS),
    "bind_vcpu does nothing": (bind_vcpu_does_nothing, Aspect.OUTPUTS),
    "not the lowest port": (the_second_lowest_port_is_given, Aspect.PORT),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_found(wrong):
    alter, aspect = WRONG[wrong]
    xen = LiveXen(busy=0, alter=alter)
    report = judge(xen)

    assert report.differences
    assert aspect in {difference.aspect for difference in report.differences}
    assert all(state != PortState.FREE for state in xen.kernels_state.values())


def test_a_struct_that_is_written_to_is_found():
    report = judge(LiveXen(scribbles=True))
    assert {difference.aspect for difference in report.differences} == {Aspect.STRUCT}


def test_a_difference_can_be_repeated_by_its_seed():
    def answers_wrongly(_xen, command, _args, answer):
        wrong = command == EvtchnOp.BIND_VIRQ and answer.ret == -Errno.EEXIST
        return Answer(-Errno.EBUSY) if wrong else answer

    first = judge(LiveXen(alter=answers_wrongly), 2_000, seed=3).differences[0]
    again = judge(LiveXen(alter=answers_wrongly, seed=9), 200, seed=first.seed).differences[0]

    assert (first.number, first.expected, first.found) == (again.number, "EEXIST", "EBUSY")
    assert first.text.split()[0] == "bind_virq"
    assert len(first.before) == 8


@pytest.mark.parametrize(
    ("name", "form", "operation"),
    [
        ("4.14", FormName.FIFO, "set_priority"),
        ("4.7", FormName.TWO_LEVEL, "expand_array"),
        ("qemu", FormName.TWO_LEVEL, "set_priority"),
    ],
)
def test_another_version_is_told_by_what_it_answers(name, form, operation):
    xen = LiveXen(form, find_profile(name))
    report = judge(xen, 2_000, profile=find_profile("4.17"))
    assert operation in {difference.text.split()[0] for difference in report.differences}


# What is left behind


@settings(max_examples=60, deadline=None)
@given(call=st.integers(1, 700), form=st.sampled_from(FORMS), seed=st.integers(0, 99))
def test_what_was_opened_is_closed_if_any_call_fails(call, form, seed):
    xen = LiveXen(form, breaks_at=call, seed=seed)
    with pytest.raises(DoorBrokenError):
        judge(xen, seed=seed)

    assert xen.strays == []


@given(share=st.floats(0, 0.99), form=st.sampled_from(FORMS))
@settings(max_examples=30, deadline=None)
def test_what_was_opened_is_closed_if_it_is_told_to_stop(share, form):
    xen = LiveXen(form)
    report = judge(xen, keep_on=lambda done: done < share)

    assert report.interrupted
    assert report.operations < 600
    assert xen.strays == []


def test_ctrl_c_between_two_operations_closes_what_was_opened():
    def interrupt(done):
        if done > 0.4:
            raise KeyboardInterrupt
        return True

    xen = LiveXen()
    with pytest.raises(KeyboardInterrupt):
        judge(xen, keep_on=interrupt)
    assert xen.strays == []


def test_a_failing_close_does_not_keep_the_others_open():
    xen = LiveXen()
    fence = Fence(xen)
    for vcpu in (0, 1, 0):
        fence.call(EvtchnOp.BIND_IPI, (vcpu,))
    xen.breaks_at = xen.calls + 2
    with pytest.raises(DoorBrokenError):
        fence.close_all()

    assert len(xen.strays) == len(fence.own) == 1


def test_a_port_that_cannot_be_closed_is_named():
    kept: list[tuple[int, ...]] = []

    def stays_open(_xen, command, args, answer):
        if command == EvtchnOp.CLOSE and answer.ret == 0 and not kept:
            kept.append(args)
        return Answer(-Errno.EINVAL) if command == EvtchnOp.CLOSE and args in kept else answer

    report = judge(LiveXen(alter=stays_open, busy=0), 300)
    assert not report.passed
    assert report.left == kept[0]


# The fence


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (EvtchnOp.CLOSE, (5,)),
        (EvtchnOp.SEND, (5,)),
        (EvtchnOp.BIND_VCPU, (5, 0)),
        (EvtchnOp.SET_PRIORITY, (5, 0)),
        (EvtchnOp.UNMASK, (5,)),
        (EvtchnOp.UNMASK, (0,)),
        (EvtchnOp.STATUS, (1, 5)),
        (EvtchnOp.ALLOC_UNBOUND, (1, DOMID_SELF)),
        (EvtchnOp.ALLOC_UNBOUND, (DOMID_SELF, 1)),
        (EvtchnOp.BIND_INTERDOMAIN, (DOMID_SELF, 5)),
        (EvtchnOp.BIND_INTERDOMAIN, (1, 1 << 17)),
        (EvtchnOp.BIND_VIRQ, (0, 0)),
        (EvtchnOp.BIND_VIRQ, (2, 0)),
        (EvtchnOp.BIND_PIRQ, (9, 0)),
        (EvtchnOp.RESET, (DOMID_SELF,)),
        (EvtchnOp.RESET_CONT, (DOMID_SELF,)),
        (EvtchnOp.INIT_CONTROL, (1, 0, 0)),
        (EvtchnOp.INIT_CONTROL, (1, 4096, 0)),
        (EvtchnOp.INIT_CONTROL, ((1 << 64) - 1, 0, 0)),
        (EvtchnOp.EXPAND_ARRAY, (1,)),
    ],
)
def test_what_might_touch_others_is_not_done(op, args):
    xen = LiveXen()
    with Fence(xen) as fence:
        fence.call(EvtchnOp.BIND_IPI, (0,))
        before = xen.calls
        with pytest.raises(OutsideFenceError):
            fence.call(op, args)

        assert before == xen.calls


def test_a_closed_port_is_no_longer_ours():
    with Fence(LiveXen()) as fence:
        (number,) = fence.call(EvtchnOp.BIND_IPI, (0,)).out
        assert fence.call(EvtchnOp.SEND, (number,)).ret == 0
        fence.call(EvtchnOp.CLOSE, (number,))
        with pytest.raises(OutsideFenceError):
            fence.call(EvtchnOp.SEND, (number,))


def test_a_port_without_an_event_word_is_closed_at_once():
    xen = LiveXen(busy=0)
    fence = Fence(xen)
    fence.room = 1
    with fence, pytest.raises(CannotRecordError, match="beyond those"):
        fence.call(EvtchnOp.BIND_IPI, (0,))

    assert xen.strays == []


# The survey


@pytest.mark.parametrize("form", FORMS)
def test_the_survey_finds_out_where_it_is_and_leaves_nothing(form):
    xen = LiveXen(form, vcpus=3, domid=2, busy=0)
    xen.kernel.append(xen.do(EvtchnOp.BIND_VIRQ, 14, 0).out[0])
    with Fence(xen) as fence:
        place = survey(fence, [0, 2, 7])

    assert (place.domid, place.form, place.vcpus, place.usable_vcpus) == (2, form, 3, (0, 2))
    assert place.free_virqs == (5, 15)
    assert place.open_ports == len(xen.kernel)
    assert place.room == (1024 if form is FormName.FIFO else 4096)
    assert xen.strays == []


def test_a_xen_that_refuses_everything_is_no_place_to_compare():
    class Closed:
        def event_channel_op(self, _command, words):
            return -1, tuple(words)

    with pytest.raises(CannotRecordError, match="alloc_unbound"), Fence(Closed()) as fence:
        survey(fence, [0])


@pytest.mark.parametrize("form", FORMS)
def test_where_few_ports_are_free_nothing_is_asked(form):
    xen = LiveXen(form, busy=0)
    xen.kernel += [
        xen.do(EvtchnOp.BIND_IPI, 0).out[0] for _ in range(940 if form is FormName.FIFO else 3960)
    ]
    with pytest.raises(CannotRecordError, match="128 more have to be free"):
        judge(xen)

    assert xen.strays == []
    assert xen.disturbed == []
