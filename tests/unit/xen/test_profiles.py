"""Each quirk by itself: what HEAD does, and what the version or imitation before it did."""

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from evtrace.errors import UsageError
from evtrace.xen.abi import DOMID_SELF, Errno, EvtchnOp, HypercallError, PortState, Virq
from evtrace.xen.domain import Limits
from evtrace.xen.effects import EffectKind
from evtrace.xen.machine import Machine
from evtrace.xen.profiles import HEAD, PROFILES, QEMU, Profile, find_profile, profile_for_version
from evtrace.xen.virqs import VirqClass, classify_virq


def machine_with(profile: Profile, *, vcpus: int = 2) -> Machine:
    machine = Machine(profile)
    for domid in (0, 1, 2):
        machine.create_domain(domid, vcpus)
    return machine


def call(machine: Machine, domid: int, op: EvtchnOp, *args: int, vcpu: int = 0) -> str | int:
    """Make a call and give its return value as an errno's name, or 0."""
    ret = machine.hypercall(domid, vcpu, op, args).ret
    return Errno(-ret).name if ret < 0 else ret


def refused(action: Callable[..., object], *args: int) -> str | int:
    """Do a management action and give the errno's name, or 0."""
    try:
        action(*args)
    except HypercallError as refusal:
        return refusal.errno.name
    return 0


def events(machine: Machine) -> list[str]:
    """Names of the effects since they were last taken."""
    return [EffectKind(effect[0]).name for effect in machine.take_effects()]


# versions.md, row by row


@pytest.mark.parametrize(("handler_only", "expected"), [(True, "EBUSY"), (False, 0)])
def test_bind_virq_by_another_than_the_handler(handler_only, expected):
    machine = machine_with(replace(HEAD, bind_virq_needs_handler=handler_only))
    assert call(machine, 1, EvtchnOp.BIND_VIRQ, Virq.CONSOLE, 0) == expected
    machine.take_effects()
    machine.raise_global_virq(Virq.CONSOLE)
    assert events(machine) == []


@pytest.mark.parametrize(("checked_first", "expected"), [(True, "EBUSY"), (False, "ENOSPC")])
def test_bind_virq_by_another_with_a_full_table(checked_first, expected):
    machine = Machine(replace(HEAD, bind_virq_needs_handler=checked_first))
    machine.create_domain(1, 1, limits=Limits(max_port=0))
    assert call(machine, 1, EvtchnOp.BIND_VIRQ, Virq.CONSOLE, 0) == expected


@pytest.mark.parametrize(("spares", "expected"), [(True, "EBUSY"), (False, 0)])
def test_handing_over_a_virq_that_is_bound(spares, expected):
    machine = machine_with(replace(HEAD, virq_handover_spares_bound=spares))
    call(machine, 0, EvtchnOp.BIND_VIRQ, Virq.CONSOLE, 0)
    assert refused(machine.set_virq_handler, 1, Virq.CONSOLE) == expected
    machine.raise_global_virq(Virq.CONSOLE)
    assert bool(events(machine)) is spares


@pytest.mark.parametrize(("refuses", "expected"), [(True, "EINVAL"), (False, 0)])
def test_handing_over_a_virq_to_a_dying_domain(refuses, expected):
    machine = machine_with(replace(HEAD, virq_handover_refuses_dying=refuses))
    machine.kill_domain(1)
    assert refused(machine.set_virq_handler, 1, Virq.CONSOLE) == expected


@pytest.mark.parametrize(("is_own_class", "raised"), [(True, "EINVAL"), (False, 0)])
def test_argo_virq(is_own_class, raised):
    machine = machine_with(replace(HEAD, argo_virq_per_domain=is_own_class))
    assert call(machine, 0, EvtchnOp.BIND_VIRQ, Virq.ARGO, 0) == 0
    assert call(machine, 1, EvtchnOp.BIND_VIRQ, Virq.ARGO, 0) == (0 if is_own_class else "EBUSY")
    assert refused(machine.raise_global_virq, Virq.ARGO) == raised
    assert refused(machine.set_virq_handler, 0, Virq.ARGO) == raised
    assert refused(machine.raise_domain_virq, 0, Virq.ARGO) == 0


@pytest.mark.parametrize(("is_known", "expected"), [(True, 0), (False, "EINVAL")])
def test_pmu_virq(is_known, expected):
    machine = machine_with(replace(HEAD, pmu_virq_per_vcpu=is_known))
    assert call(machine, 0, EvtchnOp.BIND_VIRQ, Virq.XENPMU, 1) == expected
    assert call(machine, 0, EvtchnOp.BIND_VIRQ, Virq.XENPMU, 0) == 0


def test_virq_classes():
    per_vcpu = {v for v in range(24) if classify_virq(v, HEAD) is VirqClass.VCPU}
    per_domain = {v for v in range(24) if classify_virq(v, HEAD) is VirqClass.DOMAIN}
    assert per_vcpu == {Virq.TIMER, Virq.DEBUG, Virq.XENOPROF, Virq.XENPMU}
    assert per_domain == {Virq.ARGO}


@pytest.mark.parametrize(
    ("hides", "mine", "foreign"), [(False, 0, "EPERM"), (True, *["EACCES"] * 2)]
)
def test_status_of_a_hypervisor_port(hides, mine, foreign):
    machine = machine_with(replace(HEAD, status_hides_xen_ports=hides))
    number = machine.xen_alloc_unbound(1, 0, 0)
    assert call(machine, 1, EvtchnOp.STATUS, DOMID_SELF, number) == mine
    assert call(machine, 2, EvtchnOp.STATUS, 1, number) == foreign


def fifo_machine(profile: Profile) -> Machine:
    """Domain 1 in FIFO with a control block for vCPU 0 only, and an IPI port to vCPU 1."""
    machine = machine_with(profile)
    call(machine, 1, EvtchnOp.INIT_CONTROL, 1, 0, 0)
    call(machine, 1, EvtchnOp.EXPAND_ARRAY, 10)
    call(machine, 1, EvtchnOp.BIND_IPI, 1)
    machine.take_effects()
    return machine


@pytest.mark.parametrize("needs", [True, False])
def test_fifo_event_for_a_vcpu_without_control_block(needs):
    machine = fifo_machine(replace(HEAD, fifo_event_needs_control_block=needs))
    call(machine, 1, EvtchnOp.SEND, 1)
    form = machine.domains[1].form
    assert (form.pending(1), form.linked(1)) == (not needs, False)
    assert events(machine) == (["SET_PENDING"] if needs else ["SET_PENDING", "WORD"])
    call(machine, 1, EvtchnOp.INIT_CONTROL, 2, 0, 1)
    call(machine, 1, EvtchnOp.UNMASK, 1)
    assert form.linked(1) is not needs


@pytest.mark.parametrize("needs", [True, False])
def test_fifo_event_for_a_vcpu_without_control_block_wakes_pollers_only_if_kept(needs):
    machine = fifo_machine(replace(HEAD, fifo_event_needs_control_block=needs))
    machine.sched_poll(1, 0, [1])
    call(machine, 1, EvtchnOp.SEND, 1, vcpu=1)
    assert machine.domains[1].vcpus[0].blocked is needs


@pytest.mark.parametrize("left_alone", [True, False])
def test_unmask_of_a_free_port(left_alone):
    machine = machine_with(replace(HEAD, unusable_ports_left_alone=left_alone))
    domain = machine.domains[1]
    for address, bit in (domain.two_level.mask_bit(7), domain.two_level.pending_bit(7)):
        domain.memory.set_bits(address, bit)
    machine.take_effects()
    assert call(machine, 1, EvtchnOp.UNMASK, 7) == 0
    upcall = ["UPCALL", "MASK", "SEL", "UPCALL_PENDING"]
    assert events(machine) == ([] if left_alone else upcall)


@pytest.mark.parametrize("left_alone", [True, False])
def test_pending_of_a_hypervisor_port_that_is_closed(left_alone):
    machine = machine_with(replace(HEAD, unusable_ports_left_alone=left_alone))
    number = machine.xen_alloc_unbound(1, 0, 0)
    domain = machine.domains[1]
    address, bit = domain.two_level.pending_bit(number)
    domain.memory.set_bits(address, bit)
    machine.xen_free(1, number)
    assert domain.form.pending(number) is left_alone


@pytest.mark.parametrize(("needs", "free", "bad"), [(True, *["EACCES"] * 2), (False, 0, "EINVAL")])
def test_set_priority_of_a_free_port(needs, free, bad):
    machine = fifo_machine(replace(HEAD, set_priority_needs_usable=needs))
    assert call(machine, 1, EvtchnOp.SET_PRIORITY, 9, 3) == free
    assert call(machine, 1, EvtchnOp.SET_PRIORITY, 9, 16) == bad


@pytest.mark.parametrize(("needs", "free"), [(True, (-Errno.EINVAL, (0,))), (False, (0, (1,)))])
def test_poll_of_a_free_port(needs, free):
    machine = machine_with(replace(HEAD, poll_needs_usable=needs))
    assert machine.sched_poll(1, 0, [9]) == free
    assert machine.sched_poll(1, 0, [4096]) == (-Errno.EINVAL, (0,))


def machine_in_reset(profile: Profile) -> Machine:
    """Domain 1 has 100 ports; other work waits."""
    machine = machine_with(profile)
    for _ in range(100):
        call(machine, 1, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 0)
    machine.work_waits = True
    return machine


def test_reset_stops_half_way():
    machine = machine_in_reset(HEAD)
    assert call(machine, 1, EvtchnOp.RESET, DOMID_SELF) == "ERESTART"
    assert call(machine, 1, EvtchnOp.RESET, DOMID_SELF) == "EBUSY"
    assert machine.domains[1].port(64) is None
    assert machine.domains[1].port(65) is not None
    machine.work_waits = False
    assert call(machine, 1, EvtchnOp.RESET_CONT, DOMID_SELF) == 0
    assert call(machine, 1, EvtchnOp.RESET_CONT, DOMID_SELF) == "EBUSY"


def test_reset_in_one_pass():
    machine = machine_in_reset(replace(HEAD, reset_can_stop=False))
    assert call(machine, 1, EvtchnOp.RESET, DOMID_SELF) == 0
    assert [port.number for port in machine.domains[1].ports if port.state] == [0]
    assert call(machine, 1, EvtchnOp.RESET_CONT, DOMID_SELF) == "ENOSYS"


@pytest.mark.parametrize(("needs", "expected"), [(True, "EINVAL"), (False, 0)])
def test_reset_of_a_domain_that_is_not_paused(needs, expected):
    machine = machine_with(replace(HEAD, foreign_reset_needs_pause=needs))
    assert call(machine, 0, EvtchnOp.RESET, 1) == expected
    machine.pause_domain(1)
    assert call(machine, 0, EvtchnOp.RESET, 1) == 0
    machine.unpause_domain(1)
    assert call(machine, 0, EvtchnOp.RESET, 1) == expected


@pytest.mark.parametrize("always", [True, False])
def test_reset_by_number_leaves_fifo(always):
    machine = fifo_machine(replace(HEAD, reset_can_stop=False, reset_always_leaves_fifo=always))
    assert call(machine, 1, EvtchnOp.RESET, 1) == 0
    assert (machine.domains[1].fifo is None) is always
    assert machine.domains[1].port(1) is None
    assert call(machine, 1, EvtchnOp.RESET, DOMID_SELF) == 0
    assert machine.domains[1].fifo is None


def test_kill_stops_half_way_from_above():
    machine = machine_in_reset(HEAD)
    assert refused(machine.kill_domain, 1) == "ERESTART"
    assert len(machine.domains[1].ports) == 64
    assert machine.domains[1].port(63) is not None
    machine.work_waits = False
    machine.kill_domain(1)
    assert call(machine, 0, EvtchnOp.STATUS, 1, 63) == 0


def test_kill_in_one_pass():
    machine = machine_in_reset(replace(HEAD, kill_can_stop=False))
    assert refused(machine.kill_domain, 1) == 0
    assert call(machine, 0, EvtchnOp.STATUS, 1, 100) == 0


@pytest.mark.parametrize(
    ("errno", "expected"), [(Errno.EOPNOTSUPP, "EOPNOTSUPP"), (Errno.ENOSYS, "ENOSYS")]
)
def test_expand_array_in_the_2_level_form(errno, expected):
    assert (
        call(machine_with(replace(HEAD, expand_array_errno=errno)), 1, EvtchnOp.EXPAND_ARRAY, 1)
        == expected
    )


@pytest.mark.parametrize(("step", "expected"), [(64, "EINVAL"), (128, 0)])
def test_the_table_grows_by_steps(step, expected):
    machine = machine_with(replace(HEAD, table_step=step))
    assert call(machine, 1, EvtchnOp.STATUS, DOMID_SELF, 63) == 0
    assert call(machine, 1, EvtchnOp.STATUS, DOMID_SELF, 64) == expected


@pytest.mark.parametrize(("keeps", "expected"), [(True, 0), (False, "EINVAL")])
def test_ports_of_a_dead_domain(keeps, expected):
    machine = machine_with(replace(HEAD, dead_keeps_ports=keeps))
    machine.kill_domain(1)
    assert call(machine, 0, EvtchnOp.STATUS, 1, 0) == expected


@pytest.mark.parametrize("makes_upcall", [True, False])
def test_registering_a_vcpu_info(makes_upcall):
    machine = machine_with(replace(HEAD, vcpu_info_makes_upcall=makes_upcall))
    machine.sched_block(1, 0)
    machine.register_vcpu_info(1, 0)
    told = ["UPCALL", "WAKE"] if makes_upcall else []
    assert events(machine) == [*told, "SEL", "UPCALL_PENDING"]


# taxonomy.md, the QEMU column


def qemu_machine() -> Machine:
    machine = machine_with(QEMU)
    call(machine, 1, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 0)
    return machine


def test_qemu_does_not_pend_the_binder():
    machine = qemu_machine()
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1) == 0
    assert events(machine) == []


def test_qemu_raises_again_on_bind_vcpu():
    machine = qemu_machine()
    call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1)
    call(machine, 1, EvtchnOp.SEND, 1)
    machine.take_effects()
    assert call(machine, 0, EvtchnOp.BIND_VCPU, 1, 1) == 0
    assert events(machine) == ["UPCALL", "SEL", "UPCALL_PENDING"]
    domain = machine.domains[0]
    assert (domain.vcpus[1].selector, domain.vcpus[1].upcall_pending) == (1, True)


def test_qemu_does_not_raise_a_masked_port_again():
    machine = qemu_machine()
    call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1)
    machine.domains[0].memory.set_bits(*machine.domains[0].two_level.mask_bit(1))
    call(machine, 1, EvtchnOp.SEND, 1)
    machine.take_effects()
    call(machine, 0, EvtchnOp.BIND_VCPU, 1, 1)
    assert events(machine) == []


def test_xen_does_not_raise_again_on_bind_vcpu():
    machine = machine_with(HEAD)
    call(machine, 1, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 0)
    call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1)
    machine.take_effects()
    call(machine, 0, EvtchnOp.BIND_VCPU, 1, 1)
    assert events(machine) == []


@pytest.mark.parametrize(
    ("profile", "closed", "again"), [(HEAD, "EINVAL", "EEXIST"), (QEMU, "ENOENT", "EBUSY")]
)
def test_qemu_close_and_bind_pirq(profile, closed, again):
    machine = machine_with(profile)
    assert call(machine, 0, EvtchnOp.CLOSE, 9) == closed
    assert call(machine, 0, EvtchnOp.CLOSE, 0) == "EINVAL"
    assert call(machine, 0, EvtchnOp.BIND_PIRQ, 5, 0) == 0
    assert call(machine, 0, EvtchnOp.BIND_PIRQ, 5, 0) == again


@pytest.mark.parametrize(
    ("profile", "nobody", "taken"), [(HEAD, *["EINVAL"] * 2), (QEMU, "ENOENT", "EBUSY")]
)
def test_qemu_bind_interdomain_to_a_bad_peer(profile, nobody, taken):
    machine = machine_with(profile)
    call(machine, 1, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 0)
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 9) == nobody
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 999) == nobody
    assert call(machine, 2, EvtchnOp.BIND_INTERDOMAIN, 1, 1) == nobody
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1) == 0
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 1) == taken
    assert call(machine, 0, EvtchnOp.BIND_INTERDOMAIN, 1, 0) == "EINVAL"
    assert call(machine, 1, EvtchnOp.BIND_INTERDOMAIN, DOMID_SELF, 9) == "EINVAL"


@pytest.mark.parametrize(("profile", "expected"), [(HEAD, 0), (QEMU, "EPERM")])
def test_qemu_alloc_unbound_for_another_domain(profile, expected):
    machine = machine_with(profile)
    assert call(machine, 0, EvtchnOp.ALLOC_UNBOUND, 1, 0) == expected
    assert call(machine, 0, EvtchnOp.ALLOC_UNBOUND, 0, 1) == 0
    assert call(machine, 0, EvtchnOp.ALLOC_UNBOUND, DOMID_SELF, 1) == 0


@pytest.mark.parametrize(("profile", "expected"), [(HEAD, 0), (QEMU, "EINVAL")])
def test_qemu_unmask_of_a_closed_port(profile, expected):
    machine = machine_with(profile)
    assert call(machine, 1, EvtchnOp.UNMASK, 9) == expected
    assert call(machine, 1, EvtchnOp.UNMASK, 0) == expected
    number = machine.xen_alloc_unbound(1, 0, 0)
    assert call(machine, 1, EvtchnOp.UNMASK, number) == 0


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (EvtchnOp.INIT_CONTROL, (1, 0, 0)),
        (EvtchnOp.EXPAND_ARRAY, (1,)),
        (EvtchnOp.SET_PRIORITY, (1, 1)),
    ],
)
def test_qemu_has_no_fifo(op, args):
    machine = qemu_machine()
    assert call(machine, 1, op, *args) == "ENOSYS"
    assert machine.domains[1].form.name == "2l"


# The table of profiles


FIRST_IN = {
    "bind_virq_needs_handler": (4, 21),
    "virq_handover_spares_bound": (4, 21),
    "virq_handover_refuses_dying": (4, 21),
    "argo_virq_per_domain": (4, 21),
    "fifo_event_needs_control_block": (4, 17),
    "unusable_ports_left_alone": (4, 15),
    "set_priority_needs_usable": (4, 15),
    "poll_needs_usable": (4, 15),
    "reset_can_stop": (4, 15),
    "kill_can_stop": (4, 15),
    "vcpu_info_makes_upcall": (4, 13),
    "expand_array_errno": (4, 8),
    "foreign_reset_needs_pause": (4, 7),
    "reset_always_leaves_fifo": (4, 7),
    "pmu_virq_per_vcpu": (4, 6),
    "dead_keeps_ports": (4, 6),
    "table_step": (4, 6),
}


@pytest.mark.parametrize("quirk", FIRST_IN)
def test_each_quirk_changes_in_its_release(quirk):
    major, minor = FIRST_IN[quirk]
    for other in range(5, 23):
        found = getattr(profile_for_version(major, other), quirk)
        assert (found == getattr(HEAD, quirk)) is (other >= minor), other


def test_hypervisor_ports_are_hidden_from_4_15_to_4_18():
    hiding = [
        minor for minor in range(5, 23) if profile_for_version(4, minor).status_hides_xen_ports
    ]
    assert hiding == [15, 16, 17, 18]


def test_releases_change_nothing_else():
    names = {field.name for field in fields(HEAD)} - set(FIRST_IN)
    changed = {
        name
        for name in names
        if any(
            getattr(profile_for_version(4, m), name) != getattr(HEAD, name) for m in range(5, 23)
        )
    }
    assert changed == {"name", "status_hides_xen_ports"}


def test_profiles_by_name():
    assert find_profile("head") is find_profile("HEAD") is HEAD
    assert find_profile("qemu") is QEMU
    assert find_profile("4.17").name == "4.17"
    assert find_profile("4.13") == profile_for_version(4, 13)
    assert profile_for_version(4, 2) == replace(PROFILES["4.5"], name="4.2")
    assert profile_for_version(5, 0) is HEAD
    for name in ("", "4", "four.five", "kvm"):
        with pytest.raises(UsageError, match="no Xen profile"):
            find_profile(name)


def test_states_are_not_stats():
    assert [state.name for state in PortState][2:] == [
        "UNBOUND",
        "INTERDOMAIN",
        "PIRQ",
        "VIRQ",
        "IPI",
    ]
