"""Scripts: scenarios as data, read with good errors, written as they are read, and run."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from evtrace.api import Trace, record
from evtrace.cli import app
from evtrace.errors import ExitCode, NoInputError, UsageError
from evtrace.script import (
    Action,
    Script,
    ScriptDomain,
    ScriptPort,
    ScriptStep,
    read_script,
)
from evtrace.tracer.emulator.faults import FAULTS
from evtrace.verdicts import Fate
from evtrace.xen.abi import EvtchnOp

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
HEAD = """
[[domain]]
name = "a"
id = 0
vcpus = 2
[[domain]]
name = "b"
id = 1
[[port]]
name = "a1"
dom = "a"
peer = "b1"
[[port]]
name = "b1"
dom = "b"
peer = "a1"
"""


def written(folder, text):
    path = folder / "script.toml"
    path.write_text(text)
    return path


def played(folder, text):
    path = written(folder, text)
    return record(str(path), folder / "played.bin", force=True)


def step(**keys):
    return "[[step]]\n" + "".join(f"{key} = {value!r}\n" for key, value in keys.items())


def calls(trace):
    """Name the EVTCHNOPs of a trace in their order."""
    ops = trace.timeline().filter(kind="call_enter").select("op").collect()
    return [EvtchnOp(op).name.lower() for op in ops["op"]]


def test_the_script_of_the_page_runs_as_it_stands(tmp_path):
    found = re.search(r"<!-- script -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    path = written(tmp_path, found[1])
    done = CliRunner().invoke(
        app, ["record", "--scenario", str(path), "-o", str(tmp_path / "t.bin")]
    )

    assert done.exit_code == ExitCode.OK, done.output
    with Trace(tmp_path / "t.bin") as trace:
        fates = [send.fate for send in trace.replay().sends]
        assert [Fate.LOST, Fate.DELIVERED] == fates


def test_the_page_names_every_action_and_key():
    named = set(re.findall(r"`(\w+)`", PAGE))

    assert {action.value for action in Action} <= named
    assert {"peer", "for", "virq", "pirq", "vcpu", "fault", "timeout_us", "runs"} <= named


def test_without_its_faults_a_script_loses_nothing(tmp_path):
    text = HEAD + step(on="a", do="send", port="a1", fault="lost-send") + step(do="wait", port="b1")
    arguments = ["record", "--scenario", str(written(tmp_path, text)), "--force"]
    arguments += ["-o", str(tmp_path / "t.bin")]
    for more, fate in ([], Fate.LOST), (["--set", "faults=no"], Fate.DELIVERED):
        assert ExitCode.OK == CliRunner().invoke(app, [*arguments, *more]).exit_code
        with Trace(tmp_path / "t.bin") as trace:
            assert [fate] == [send.fate for send in trace.replay().sends]


def test_steps_are_done_in_their_order(tmp_path):
    text = HEAD + "".join(
        (
            step(on="b", do="alloc_unbound", port="door", **{"for": "a"}),
            step(on="av1", do="bind_interdomain", port="knocker", to="door"),
            step(on="av1", do="bind_vcpu", port="knocker", vcpu=1),
            step(on="av1", do="request", port="knocker"),
            step(do="wait", port="knocker"),
            step(on="b", do="send", port="door"),
            step(do="wait", port="knocker"),
            step(on="av1", do="unbind", port="knocker"),
            step(on="b", do="send", port="door"),
            step(on="b", do="close", port="door"),
        )
    )
    trace = played(tmp_path, text)
    expected = "alloc_unbound bind_interdomain bind_vcpu unmask send close send close"

    assert expected.split() == calls(trace)
    results = trace.replay()
    assert [Fate.DELIVERED, Fate.DROP_UNBOUND] == [send.fate for send in results.sends]
    assert [] == results.divergences


def test_every_other_step_does_what_it_says(tmp_path):
    text = HEAD + "".join(
        (
            step(on="b", do="bind_ipi", port="ipi"),
            step(on="b", do="bind_virq", port="virq", virq="CON_RING"),
            step(on="b", do="set_priority", port="ipi", priority=3),
            step(on="b", do="status", port="ipi"),
            step(on="b", do="mask", port="b1"),
            step(on="a", do="send", port="a1"),
            step(on="b", do="unmask", port="b1"),
            step(do="wait", port="b1"),
            step(on="b", do="set", port="ipi"),
            step(on="b", do="clear", port="ipi"),
            step(on="b", do="raise_virq", virq="TIMER"),
            step(do="pause", us=50),
            step(on="b", do="poll", ports=["ipi"], timeout_us=20),
            step(on="b", do="reset"),
            step(on="a", do="destroy"),
        )
    )
    trace = played(tmp_path, text)
    kinds = set(trace.timeline().select("kind").collect()["kind"])

    assert ["bind_ipi", "bind_virq", "set_priority", "status", "send", "unmask", "reset"] == [
        op for op in calls(trace) if op != "expand_array"
    ]
    assert {"mask", "unmask", "set", "clear", "virq_raised", "domain_destroyed"} <= kinds
    assert [] == trace.replay().divergences


@pytest.mark.parametrize("kernel", ["zephyr", "unikraft"])
def test_small_kernels_play_too(kernel, tmp_path):
    text = HEAD.replace("id = 1\n", f'id = 1\nkernel = "{kernel}"\n')
    text += step(on="a", do="send", port="a1") + step(do="wait", port="b1")

    assert [Fate.DELIVERED] == [send.fate for send in played(tmp_path, text).replay().sends]


@pytest.mark.parametrize(("form", "number"), [("2l", 0), ("fifo", 1)])
def test_a_domain_has_the_form_that_it_asks_for(form, number, tmp_path):
    text = HEAD.replace("id = 1\n", f'id = 1\nform = "{form}"\npvh = true\n')
    trace = played(tmp_path, text + step(on="a", do="send", port="a1"))

    assert number == trace.facts.forms[1]
    assert "HVM" == trace.facts.guest_types[1].name


def test_a_refused_call_is_a_step_like_any_other(tmp_path):
    text = (
        HEAD + step(on="a", do="bind_vcpu", port="a1", vcpu=1) + step(on="b", do="close", port="b1")
    )
    text += step(on="b", do="send", port="b1")
    results = played(tmp_path, text).replay()

    assert [Fate.SEND_INVALID] == [send.fate for send in results.sends]


def test_a_handler_that_never_runs_is_not_waited_for_for_ever(tmp_path):
    text = HEAD + step(do="wait", port="b1", timeout_us=100) + step(on="a", do="send", port="a1")

    assert ["send"] == calls(played(tmp_path, text))


WRONG = [
    ("", "expected at least one [[domain]]"),
    ('[[domain]]\nname = "a"\n', "[[domain]] 1: id is missing"),
    (
        HEAD + step(on="a", do="sned", port="a1"),
        "[[step]] 1: do = 'sned': there is no such name; the nearest is 'send'",
    ),
    (HEAD + step(on="c", do="send", port="a1"), "on = 'c'"),
    (HEAD + step(on="av2", do="send", port="a1"), "vCPU 2: a has 2, numbered from 0"),
    (
        HEAD + step(on="a", do="send", port="a2"),
        "port = 'a2': there is no such name; the nearest is 'a1'",
    ),
    (HEAD + step(on="a", do="send"), "port is missing"),
    (
        HEAD + step(on="a", do="send", port="a1", prot="x"),
        "there is no key prot; the nearest is port",
    ),
    (HEAD + step(on="a", do="bind_virq", port="v", virq="TIMRE"), "the nearest is 'TIMER'"),
    (HEAD + step(do="pause", us="long"), "us = 'long': expected a whole number"),
    (HEAD + step(on="a", do="send", port="a1", fault="lost-sned"), "did you mean lost-send?"),
    (HEAD + '[[port]]\nname = "x"\ndom = "a"\n', "expected one of peer, for, virq, pirq, ipi"),
    (HEAD + '[[port]]\nname = "x"\ndom = "a"\npeer = "a1"\n', "expected a port whose peer is x"),
    (HEAD + '[[port]]\nname = "a1"\ndom = "a"\nipi = true\n', "two [[port]] have the same name"),
    (HEAD.replace("vcpus = 2", "vcpus = 0"), "vcpus = 0"),
    (HEAD.replace("id = 1", 'id = 1\nform = "3l"'), "form = '3l'"),
    ("about = [", "not TOML"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_is_wrong_is_told_with_its_place(text, expected, tmp_path):
    path = written(tmp_path, text)
    done = CliRunner().invoke(
        app, ["record", "--scenario", str(path), "-o", str(tmp_path / "t.bin")]
    )

    assert ExitCode.USAGE == done.exit_code
    assert str(path) in done.stderr or "fault" in done.stderr
    assert expected in done.stderr
    assert not (tmp_path / "t.bin").exists()


def test_a_port_of_another_domain_is_refused_at_its_step(tmp_path):
    with pytest.raises(UsageError, match=r"step 1 of the script: b1 is no port of a"):
        played(tmp_path, HEAD + step(on="a", do="send", port="b1"))


def test_a_script_that_is_not_there_is_no_input(tmp_path):
    with pytest.raises(NoInputError):
        read_script(tmp_path / "none.toml")


NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(
    NAMES,
    st.sampled_from([None, "2l", "fifo"]),
    st.integers(1, 8),
    st.lists(
        st.tuples(st.sampled_from(["send", "mask", "close"]), st.sampled_from([None, *FAULTS])),
        max_size=5,
    ),
)
def test_what_is_written_is_read_again(tmp_path_factory, name, form, vcpus, done):
    name = name.replace("v", "w")
    script = Script(
        "about it",
        (ScriptDomain(name, 3, vcpus, form),),
        (ScriptPort("p q", name, vcpus - 1, ipi=True, masked=vcpus % 2 == 0),),
        tuple(
            ScriptStep(Action(do), name, vcpus - 1, {"port": "p q"}, fault) for do, fault in done
        ),
    )
    path = tmp_path_factory.mktemp("script") / "s.toml"
    path.write_text(script.toml(["a comment"]), encoding="utf-8")

    assert script == read_script(path)
