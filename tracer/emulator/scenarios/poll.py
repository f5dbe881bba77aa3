"""A spinlock whose waiters sleep in Xen: SCHEDOP_poll on a masked IPI, and no upcall."""

from collections import deque
from typing import TYPE_CHECKING, Final

from evtrace.tracer.emulator.steps import Completion

if TYPE_CHECKING:
    from evtrace.tracer.emulator.lab import Lab
    from evtrace.tracer.emulator.linux import Linux
    from evtrace.tracer.emulator.steps import Task

_HELD_NS: Final = 12_000
_BETWEEN_NS: Final = 8_000


def poll(lab: "Lab", *, rounds: int = 40, vcpus: int = 3, timeout: float = 0.0) -> None:
    """SCHEDOP_poll waits for a lock: a masked event wakes the vCPU, and no handler runs.

    rounds: how often each vCPU takes the lock. vcpus: of the domU. timeout: microseconds after
    which a waiter looks again by itself; 0: never.
    """
    lab.domain("dom0", 0)
    dom_u = lab.domain("domU", vcpus=vcpus)
    lock = _Lock(dom_u, vcpus, timeout)
    for vcpu in range(vcpus):
        lab.start(dom_u, _contend(lock, vcpu, rounds), vcpu)


def _contend(lock: "_Lock", vcpu: int, rounds: int) -> "Task":
    """Take the lock again and again."""
    yield lock.set_up(vcpu)
    for _ in range(rounds):
        yield lock.acquire(vcpu)
        yield _HELD_NS
        yield lock.release()
        yield _BETWEEN_NS


class _Lock:
    """A fair lock; who waits for it polls the kicker port of its vCPU (xen_qlock_wait)."""

    def __init__(self, linux: "Linux", vcpus: int, timeout_us: float) -> None:
        self._linux = linux
        self._vcpus = vcpus
        self._all_set_up = Completion()
        self._timeout_us = timeout_us or None
        self._kickers: dict[int, int] = {}  # vCPU -> port
        self._holder: int | None = None
        self._waiting: deque[int] = deque()

    def set_up(self, vcpu: int) -> "Task":
        """Bind a vCPU's kicker, which stays masked; wait until every vCPU has one."""
        irq = yield self._linux.bind_ipi_to_irq(vcpu, f"kicker{vcpu}")
        self._kickers[vcpu] = self._linux.port_of(irq)
        if len(self._kickers) < self._vcpus:
            yield self._linux.wait_for_completion(self._all_set_up)
        else:
            for _ in range(self._vcpus - 1):
                yield self._linux.complete(self._all_set_up)

    def acquire(self, vcpu: int) -> "Task":
        """Take the lock, or wait for it."""
        if self._holder is None:
            self._holder = vcpu
            return
        self._waiting.append(vcpu)
        while self._holder != vcpu:
            yield self._wait(self._kickers[vcpu])

    def _wait(self, port: int) -> "Task":
        """Take a kick that has come, else sleep until one comes."""
        linux = self._linux
        if linux.domain.form.pending(port):
            linux.clear(port)
            yield linux.lab.costs.profile.memory
        else:
            yield linux.poll([port], self._timeout_us)

    def release(self) -> "Task":
        """Hand the lock on and kick who gets it."""
        self._holder = self._waiting.popleft() if self._waiting else None
        if self._holder is not None:
            yield self._linux.send(self._kickers[self._holder])
