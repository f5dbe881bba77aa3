"""What a vCPU is in the midst of: upcalls opened once, clearings given to their events."""

from evtrace.tracer.importers.dispatch import UPCALL_DEPTH, VcpuContext

PV, COMMON, SCAN = (
    UPCALL_DEPTH[name]
    for name in ("__xen_pv_evtchn_do_upcall", "xen_evtchn_do_upcall", "evtchn_2l_handle_events")
)


def opened(*depths):
    context = VcpuContext()
    return [context.upcall(depth) for depth in depths]


def test_deeper_functions_belong_to_the_upcall_that_is_open():
    assert [True, False, False] == opened(PV, COMMON, SCAN)
    assert [True, False, True, False] == opened(COMMON, SCAN, COMMON, SCAN)
    assert [True, True, True] == opened(PV, PV, PV)


def test_a_scan_after_a_scan_is_the_loop_inside_one_upcall():
    assert [True, False, False, False] == opened(COMMON, SCAN, SCAN, SCAN)


def test_a_scan_after_other_code_ran_is_another_upcall():
    context = VcpuContext()

    assert context.upcall(SCAN)
    context.leave_irq()
    assert context.upcall(SCAN)


def test_an_edge_event_is_cleared_before_its_handler():
    context = VcpuContext()
    context.start(7)
    cleared = context.clear()

    assert context.enter_handler(30) is cleared
    assert (7, 30) == (cleared.port, cleared.irq)


def test_a_level_event_is_cleared_behind_its_handler():
    context = VcpuContext()
    context.start(7)
    handled = context.enter_handler(30)
    context.exit_handler(30)

    assert context.clear() is handled


def test_a_second_clearing_is_that_of_an_event_dispatched_directly():
    context = VcpuContext()
    context.start(7)
    context.clear()
    context.enter_handler(30)
    context.exit_handler(30)
    direct = context.clear()

    assert context.enter_handler(24) is direct
    assert (None, 24) == (direct.port, direct.irq)


def test_an_event_without_a_handler_does_not_take_the_next_ones():
    context = VcpuContext()
    context.start(7)
    unhandled = context.clear()
    context.start(9)

    assert context.clear() is not unhandled
    assert context.enter_handler(31).port == 9


def test_two_actions_of_one_irq_are_two_events():
    context = VcpuContext()
    context.start(7)
    first = context.enter_handler(9)

    assert context.enter_handler(9) is not first


def test_a_lost_exit_does_not_keep_the_event_for_ever():
    context = VcpuContext()
    context.upcall(COMMON)
    context.start(7)
    stale = context.enter_handler(30)
    context.upcall(COMMON)

    assert context.clear() is not stale
    assert context.acknowledge() is not stale
