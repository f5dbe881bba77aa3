"""Argument structs: what a probe saw in a guest kernel, decoded and encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtrace.xen import ops
from evtrace.xen.abi import EvtchnOp, PortStatus

# (op, words before the call, words after it, arguments, outputs): calls of Linux 6.1 on Xen 4.17;
# what lies behind a struct is the caller's stack.
SEEN = [
    (EvtchnOp.BIND_VIRQ, [4, 0, 0], [4, 0, 0x1E], (4, 0), (0x1E,)),
    (EvtchnOp.BIND_VCPU, [0x1E, 0, 0x909ACA00], [0x1E, 0, 0x909ACA00], (0x1E, 0), ()),
    (EvtchnOp.ALLOC_UNBOUND, [0x7FF0, 0, 0], [0x7FF0, 0x1F, 0], (0x7FF0, 0), (0x1F,)),
    (EvtchnOp.BIND_INTERDOMAIN, [1, 8, 0], [1, 8, 0x21], (1, 8), (0x21,)),
    (EvtchnOp.CLOSE, [0x20, 0xC18DB200, 0], [0x20, 0xC18DB200, 0], (0x20,), ()),
    (EvtchnOp.SEND, [0xA, 0x5A68DB00, 0xD500BC9B], [0xA, 0x5A68DB00, 0xD500BC9B], (0xA,), ()),
]


@pytest.mark.parametrize(("op", "before", "after", "args", "out"), SEEN)
def test_observed_calls_decode(op, before, after, args, out):
    assert ops.decode_args(op, before) == args
    assert ops.decode_outputs(op, after) == out


def test_two_domains_share_the_first_word_of_alloc_unbound():
    assert ops.decode_args(EvtchnOp.ALLOC_UNBOUND, [0x0003_7FF0]) == (0x7FF0, 3)
    assert ops.encode_args(EvtchnOp.ALLOC_UNBOUND, (0x7FF0, 3)) == [0x0003_7FF0, 0]


def test_the_stack_beside_a_short_field_is_not_part_of_it():
    assert ops.decode_args(EvtchnOp.BIND_INTERDOMAIN, [0xDEAD_0001, 8]) == (1, 8)
    assert ops.decode_outputs(EvtchnOp.INIT_CONTROL, [0, 0, 0, 0, 0xFFFF_FF11]) == (17,)


def test_64_bit_fields_take_two_words():
    words = ops.encode_args(EvtchnOp.INIT_CONTROL, (0x1_0000_0002, 8, 3))
    assert words == [2, 1, 8, 3, 0]
    assert ops.decode_args(EvtchnOp.INIT_CONTROL, words) == (0x1_0000_0002, 8, 3)


def test_decoding_ends_where_the_words_do():
    assert ops.decode_args(EvtchnOp.INIT_CONTROL, [2, 0, 8]) == (2, 8)
    assert ops.decode_args(EvtchnOp.SEND, []) == ()
    assert ops.decode_outputs(EvtchnOp.STATUS, [0, 0, 2]) == (2,)
    assert ops.decode_outputs(EvtchnOp.STATUS, [0, 0]) == ()
    assert ops.decode_outputs(EvtchnOp.STATUS, [0, 0, 99, 1]) == (99, 1)


@pytest.mark.parametrize(
    ("out", "names"),
    [
        ((0, 1), ("status", "vcpu")),
        ((1, 0, 7), ("status", "vcpu", "dom")),
        ((2, 0, 7, 33), ("status", "vcpu", "dom", "port")),
        ((3, 0, 5), ("status", "vcpu", "pirq")),
        ((4, 0, 2), ("status", "vcpu", "virq")),
        ((5, 3), ("status", "vcpu")),
    ],
)
def test_status_answers_by_what_the_port_is(out, names):
    words = ops.encode_outputs(EvtchnOp.STATUS, out)
    assert len(words) == ops.words_needed(EvtchnOp.STATUS) == 6
    assert ops.decode_outputs(EvtchnOp.STATUS, words) == out
    assert ops.output_names(EvtchnOp.STATUS, out) == names


def test_struct_sizes_are_those_of_the_header():
    sizes = {op.name: ops.words_needed(op) * 4 for op in EvtchnOp}
    assert sizes == {
        "BIND_INTERDOMAIN": 12,
        "BIND_VIRQ": 12,
        "BIND_PIRQ": 12,
        "CLOSE": 4,
        "SEND": 4,
        "STATUS": 24,
        "ALLOC_UNBOUND": 8,
        "BIND_IPI": 8,
        "BIND_VCPU": 8,
        "UNMASK": 4,
        "RESET": 4,
        "INIT_CONTROL": 20,
        "EXPAND_ARRAY": 8,
        "SET_PRIORITY": 8,
        "RESET_CONT": 4,
    }


def test_names_are_those_of_the_struct():
    assert ops.arg_names(EvtchnOp.BIND_INTERDOMAIN) == ("remote_dom", "remote_port")
    assert ops.output_names(EvtchnOp.BIND_INTERDOMAIN) == ("local_port",)
    assert ops.output_names(EvtchnOp.SEND) == ()
    assert ops.OP_SPECS[EvtchnOp.RESET_CONT].struct == "evtchn_reset"


@given(st.data())
def test_encoding_and_decoding_are_inverse(data):
    op = data.draw(st.sampled_from(list(EvtchnOp)))
    spec = ops.OP_SPECS[op]
    values = [
        tuple(data.draw(st.integers(0, (1 << 8 * field.width) - 1)) for field in fields)
        for fields in (spec.inputs, spec.outputs)
    ]
    assert ops.decode_args(op, ops.encode_args(op, values[0])) == values[0]
    if op != EvtchnOp.STATUS:
        assert ops.decode_outputs(op, ops.encode_outputs(op, values[1])) == values[1]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ((PortStatus.CLOSED, 3), [0, 0, 0, 3, 0, 0]),
        ((PortStatus.UNBOUND, 1, 5), [0, 0, 1, 1, 5, 0]),
        ((PortStatus.INTERDOMAIN, 1, 5, 9), [0, 0, 2, 1, 5, 9]),
        ((PortStatus.PIRQ, 0, 7), [0, 0, 3, 0, 7, 0]),
        ((PortStatus.VIRQ, 2, 4), [0, 0, 4, 2, 4, 0]),
        ((PortStatus.IPI, 2), [0, 0, 5, 2, 0, 0]),
    ],
)
def test_what_status_tells_lies_where_xens_header_puts_it(out, words):
    assert words == ops.encode_outputs(EvtchnOp.STATUS, out)
    assert tuple(out) == ops.decode_outputs(EvtchnOp.STATUS, words)


def test_a_domain_number_has_two_bytes():
    for status in (PortStatus.UNBOUND, PortStatus.INTERDOMAIN):
        words = [0, 0, status, 0, 0xABCD_0005, 9]
        assert ops.decode_outputs(EvtchnOp.STATUS, words)[2] == 5


def test_what_xen_does_not_write_stays_as_it_was():
    sent = ops.encode_args(EvtchnOp.STATUS, (0x7FF0, 9), onto=[0xA5A5_A5A5] * 6)
    assert sent == [0xA5A5_7FF0, 9, *[0xA5A5_A5A5] * 4]
    after = ops.encode_outputs(EvtchnOp.STATUS, (PortStatus.UNBOUND, 1, 3), onto=sent)
    assert after == [0xA5A5_7FF0, 9, PortStatus.UNBOUND, 1, 0xA5A5_0003, 0xA5A5_A5A5]
