"""Single writes of a guest kernel to shared memory: no hypercall, no effect but the memory's.

A function on a port returns False, and does nothing, if the port has no shared memory.
"""

from typing import TYPE_CHECKING

from evtrace.xen.abi import FIFO_MASKED, PAGE_WORDS
from evtrace.xen.memory import MASK_BASE, page_address

if TYPE_CHECKING:
    from evtrace.xen.domain import Domain
    from evtrace.xen.form import Bit
    from evtrace.xen.vcpu import Vcpu


def mask(domain: "Domain", port: int) -> bool:
    """Set the mask bit: events wait."""
    return _set(domain, port, domain.form.mask_bit(port))


def clear_mask(domain: "Domain", port: int) -> bool:
    """Clear the mask bit and nothing else: an event that waited goes on waiting."""
    return _clear(domain, port, domain.form.mask_bit(port))


def set_pending(domain: "Domain", port: int) -> bool:
    """Set the pending bit, as a guest does that raises an event on itself."""
    return _set(domain, port, domain.form.pending_bit(port))


def clear_pending(domain: "Domain", port: int) -> bool:
    """Clear the pending bit: the event is taken."""
    return _clear(domain, port, domain.form.pending_bit(port))


def _set(domain: "Domain", port: int, bit: "Bit | None") -> bool:
    if bit is None or port >= domain.form.limit:
        return False
    domain.memory.set_bits(*bit)
    return True


def _clear(domain: "Domain", port: int, bit: "Bit | None") -> bool:
    if bit is None or port >= domain.form.limit:
        return False
    domain.memory.clear_bits(*bit)
    return True


def mask_all(domain: "Domain") -> None:
    """Mask every port of the table, as a kernel does when it starts; FIFO: every mapped word."""
    memory = domain.memory
    if domain.fifo is None:
        table = range(MASK_BASE, MASK_BASE + domain.word_bits)
        memory.write_many(dict.fromkeys(table, (1 << domain.word_bits) - 1))
        return
    for page in domain.fifo.array:
        table = range(page, page + PAGE_WORDS)
        memory.write_many({address: memory.read(address) | FIFO_MASKED for address in table})


def write_word(domain: "Domain", port: int, value: int) -> bool:
    """Store a raw event word; the 2-level form has none, so nothing changes."""
    if domain.fifo is None:
        return port < domain.form.limit
    address = domain.fifo.word_address(port)
    if address is None:
        return False
    domain.memory.write(address, value)
    return True


def fill_page(domain: "Domain", gfn: int, value: int) -> None:
    """Fill a guest page with one 32-bit value, if there is such a page."""
    if gfn >= domain.limits.gfns:
        return
    first = page_address(gfn)
    values = dict.fromkeys(range(first, first + PAGE_WORDS), value)
    if domain.fifo and domain.fifo.uses_page(first):
        domain.memory.write_many(values)
    else:
        domain.memory.words.update(values)


def write_upcall_mask(vcpu: "Vcpu", value: int) -> None:
    """Hold upcalls off (1) or let them in (0)."""
    vcpu.domain.memory.write(vcpu.mask_address, value)


def clear_upcall_pending(vcpu: "Vcpu") -> None:
    """Take the upcall flag back."""
    vcpu.domain.memory.write(vcpu.pending_address, 0)
