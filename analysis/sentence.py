"""The verdict of a report in words: what ran, what nobody provoked, what got lost."""

import polars as pl

from evtrace.analysis.columns import NO_WORK, UNPROVOKED
from evtrace.replay.results import Results
from evtrace.verdicts import Cause, Fate

_IN_WORDS = {
    Cause.BIND_CONSERVATIVE: "Xen's conservative event at bind",
    Cause.RETRIGGER_LOCAL: "the guest set the bit itself",
    Cause.DOUBLE_HANDLE: "two handlers for one event",
    Cause.STALE_PENDING_REUSE: "pending left by an earlier owner",
    Cause.PEER_CLOSE_RESIDUE: "the peer had closed before",
    Cause.UNBIND_LAST_CALL: "called once more while being freed",
    Cause.UNPROVOKED: "nothing had set it pending",
}

NAMED = 3
"""So many groups of a kind are named; the others are counted."""


def verdict_in_words(results: Results, runs: pl.DataFrame, sends: pl.DataFrame) -> str:
    """Say what the tables of `runs` and `sends` show, the surprising first."""
    said = [_said_of_runs(runs) if runs.height else _without_runs(results)]
    said += _said_of_work(runs) + _said_of_sends(sends)
    if results.divergences:
        found = count_of(len(results.divergences), "divergence")
        said.append(f"{found} from the model.")
    return " ".join(said)


def _said_of_runs(runs: pl.DataFrame) -> str:
    ports = runs.select("dom", "port").unique()
    of = _port(*ports.row(0)) if ports.height == 1 else f"{ports.height:,} ports"
    parts = [f"{count_of(runs.height, 'run')} of {of}"]
    unprovoked = runs.filter(UNPROVOKED)
    if unprovoked.is_empty():
        unknown = (runs["cause"] == Cause.UNKNOWN.value).sum()
        parts.append(f"{unknown:,} of unknown cause" if unknown else "each provoked by an event")
    else:
        was = "was" if unprovoked.height == 1 else "were"
        why = _why(unprovoked, name_ports=ports.height > 1)
        parts.append(f"{unprovoked.height:,} {was} provoked by nobody: {why}")
    return "; ".join(parts) + "."


def _why(unprovoked: pl.DataFrame, *, name_ports: bool) -> str:
    """Name the causes of unprovoked runs, and the ports where there are few."""
    groups = (
        unprovoked.group_by("cause", maintain_order=True)
        .agg(pl.len().alias("count"), pl.struct("dom", "port").unique(maintain_order=True))
        .iter_rows()
    )
    texts = []
    for cause, count, ports in groups:
        text = _IN_WORDS[Cause(cause)]
        if name_ports and len(ports) <= NAMED:
            text = ", ".join(_port(end["dom"], end["port"]) for end in ports) + ", " + text
        elif name_ports:
            text += f" at {len(ports):,} ports"
        texts.append(text + (f" ({count:,} times)" if count > len(ports) else ""))
    return "; ".join(texts)


def _said_of_work(runs: pl.DataFrame) -> list[str]:
    """Say where drivers found no work."""
    ports = runs.group_by("dom", "port").agg(runs=pl.len(), idle=NO_WORK.sum())
    idle = ports.filter(pl.col("idle") > 0).sort(
        "idle", "dom", "port", descending=[True, False, False]
    )
    if idle.is_empty():
        return []
    texts = [
        f"{none:,} of {count_of(runs_, 'run')} of {_port(dom, port)}"
        for dom, port, runs_, none in idle.head(NAMED).iter_rows()
    ]
    more = idle.height - NAMED
    texts += [f"and at {more:,} more ports"] if more > 0 else []
    return [f"The driver found no work in {', '.join(texts)}."]


def _said_of_sends(sends: pl.DataFrame) -> list[str]:
    """Say which sends reached nobody, or not yet."""
    counts = dict(sends["fate"].value_counts().iter_rows())
    said = []
    for fate, words in (
        (Fate.LOST, "lost"),
        (Fate.DROP_UNBOUND, "dropped, for nobody was bound"),
        (Fate.DROP_NO_CONTROL_BLOCK, "dropped, for the vCPU had no FIFO control block"),
        (Fate.HELD_MASKED, "held back to the end by a masked port"),
        (Fate.NOT_ANNOUNCED, "left pending, and nothing announces it"),
    ):
        count = counts.get(fate.value, 0)
        if count:
            said.append(f"{count_of(count, 'send')} {'was' if count == 1 else 'were'} {words}.")
    return said


def _without_runs(results: Results) -> str:
    if not results.hypercalls:
        return "No event-channel hypercall and no handler run in this trace."
    text = f"{count_of(results.hypercalls, 'event-channel hypercall')}, no handler run captured"
    if results.uncovered == results.hypercalls:
        text += ": a stock capture tells that vCPUs called, not what for"
    return text + "."


def _port(dom: int, port: int | None) -> str:
    return f"d{dom}:{'?' if port is None else port}"


def count_of(count: int, noun: str) -> str:
    """Give a number of things in words: `1 run`, `1,697 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
