"""A replayed trace as a file for the Perfetto UI: tracks, slices, and an arrow for each delivery.

A domain is a process and a vCPU a thread; the host's pCPUs are threads of a process of their own,
with the vCPU that runs as the slice. What was decided of a run or a send stands in its arguments.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

import polars as pl

from evtrace.analysis.perfetto.file import PerfettoFile
from evtrace.analysis.perfetto.slices import Notes, Point, Slice, Track
from evtrace.replay.results import Results
from evtrace.timeline import Kind, Row, Runstate
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.lines import IDLE_DOMAIN
from evtrace.verdicts import Fate, Run, Send
from evtrace.xen.abi import EvtchnOp
from evtrace.xen.ops import arg_names, output_names

_SLICES = (Kind.CALL_ENTER, Kind.CALL_EXIT, Kind.UPCALL_ENTER, Kind.UPCALL_EXIT)
_OTHERS = (Kind.HANDLER_ENTER, Kind.HANDLER_EXIT, Kind.RUNSTATE, Kind.CLEAR)
_DRAWN = [int(kind) for kind in (*_SLICES, *_OTHERS)]

_PIDS_PER_DOMAIN = 10_000
"""A domain's process and threads are numbered from (domain + 1) times this; pCPUs below."""
_PCPUS = 1

Frames = Callable[[], Iterable[pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a file for Perfetto holds."""

    slices: int
    flows: int
    tracks: int


def draw(
    file: IO[bytes],
    frames: Frames,
    facts: Facts,
    results: Results,
    tsc_hz: int,
    selected: pl.Expr,
) -> Drawn:
    """Draw the `selected` rows of the timeline that `frames` gives, with the verdicts on them.

    A delivered send gets a flow if its call, and the run or poller that took it, are selected.
    Times are nanoseconds of the host's TSC; of an interval its start.
    """
    perfetto = PerfettoFile(file, tsc_hz)
    verdicts = _Verdicts(results, _selected_seqs(frames, selected))
    drawing = _Drawing(perfetto, facts, verdicts)
    wanted = selected & pl.col("kind").is_in(_DRAWN)
    for batch in frames():
        for row in map(Row._make, batch.filter(wanted).iter_rows()):
            drawing.take(row)
    drawing.finish()
    return Drawn(perfetto.slices, perfetto.flows, perfetto.tracks)


def _selected_seqs(frames: Frames, selected: pl.Expr) -> set[int]:
    """Give the `seq` of the sends that are selected, and of what may have taken one."""
    is_send = (pl.col("kind") == Kind.CALL_ENTER) & (pl.col("op") == EvtchnOp.SEND)
    ends = is_send | pl.col("kind").is_in([int(Kind.HANDLER_ENTER), int(Kind.CLEAR)])
    return {seq for batch in frames() for seq in batch.filter(selected & ends)["seq"]}


class _Verdicts:
    """The replay's verdicts by the record that they stand on."""

    def __init__(self, results: Results, selected: set[int]) -> None:
        self.runs: dict[int, Run] = {run.seq: run for run in results.runs}
        self.sends: dict[int, Send] = {send.seq: send for send in results.sends}
        self.arriving: dict[int, list[int]] = {}
        """The seq of a run, or of a poller's clearing -> the flows that end in it."""
        for send in results.sends:
            if send.fate is Fate.DELIVERED and {send.seq, send.taken_seq} <= selected:
                self.arriving.setdefault(send.taken_seq or 0, []).append(_flow(send.seq))

    def leaving(self, send: Send) -> list[int]:
        """Give the flow that starts at a send; none if it was not delivered."""
        flow = _flow(send.seq)
        return [flow] if flow in self.arriving.get(send.taken_seq or 0, ()) else []


def _flow(seq: int) -> int:
    """Give the number of a send's flow; 0 is none."""
    return seq + 1


class _Drawing:
    """Turns rows into slices of tracks."""

    def __init__(self, file: PerfettoFile, facts: Facts, verdicts: _Verdicts) -> None:
        self._file = file
        self._facts = facts
        self._verdicts = verdicts
        self._tracks: dict[tuple[int, int], Track] = {}
        self._calls: dict[tuple[int, int, int, int], list[tuple[Track, Slice]]] = {}

    def take(self, row: Row) -> None:
        """Draw one row."""
        if row.kind == Kind.RUNSTATE:
            self._runstate(row)
            return
        if row.kind == Kind.CLEAR and row.seq not in self._verdicts.arriving:
            return
        track = self._vcpu(row.dom or 0, row.vcpu or 0)
        match row.kind:
            case Kind.CALL_ENTER:
                self._call_enter(track, row)
            case Kind.CALL_EXIT:
                self._call_exit(row)
            case Kind.UPCALL_ENTER:
                upcall = Slice(row.tsc_lo, "upcall", "upcall", {"seq": row.seq})
                upcall.reached = row.tsc_lo  # many a capture holds no UPCALL_EXIT
                track.begin("upcall", upcall)
            case Kind.UPCALL_EXIT:
                track.end("upcall", row.tsc_lo)
            case Kind.HANDLER_ENTER:
                track.begin(f"irq {row.irq}", self._handler(row))
            case Kind.HANDLER_EXIT:
                track.end(f"irq {row.irq}", row.tsc_lo)
                track.reach("upcall", row.tsc_lo)
            case Kind.CLEAR:
                arriving = self._verdicts.arriving[row.seq]
                notes: Notes = {"seq": row.seq, "port": row.port}
                track.point(Point(row.tsc_lo, "polled", notes, arriving))

    def finish(self) -> None:
        """Draw what never ended, too."""
        for track in self._tracks.values():
            track.finish()

    def _runstate(self, row: Row) -> None:
        """Draw who runs on a pCPU."""
        old, new = divmod(row.op or 0, 16)
        if row.pcpu is None or row.dom in {None, IDLE_DOMAIN}:
            return
        name = f"d{row.dom}v{row.vcpu}"
        if new == Runstate.RUNNING:
            track = self._track(-1, row.pcpu, "pCPUs", f"p{row.pcpu}")
            track.begin("runs", Slice(row.tsc_lo, name, "sched", {"seq": row.seq}))
        elif old == Runstate.RUNNING:
            track = self._track(-1, row.pcpu, "pCPUs", f"p{row.pcpu}")
            notes = {"then": Runstate(new).name.lower()} if new in set(Runstate) else {}
            track.end("runs", row.tsc_lo, **notes)

    # --- calls ---------------------------------------------------------------------------------

    def _call_enter(self, track: Track, row: Row) -> None:
        op = row.op or 0
        names = arg_names(EvtchnOp(op)) if op in set(EvtchnOp) else ()
        notes: Notes = {"seq": row.seq}
        notes |= dict(zip(names, row.words, strict=False))
        call = Slice(row.tsc_lo, _op_name(op), "call", notes)
        send = self._verdicts.sends.get(row.seq)
        if send is not None:
            call.notes |= _send_notes(send)
            call.flows_out = self._verdicts.leaving(send)
        self._calls.setdefault(_call_key(row), []).append((track, call))
        track.begin(call, call)
        if send is not None and send.taken_seq is None:
            track.point(Point(max(send.tsc, row.tsc_lo), send.fate.value, _send_notes(send)))

    def _call_exit(self, row: Row) -> None:
        """End a call, on the track where it began."""
        began = self._calls.get(_call_key(row))
        if not began:
            return
        track, call = began.pop()
        if not began:
            del self._calls[_call_key(row)]
        op = row.op or 0
        names = output_names(EvtchnOp(op)) if op in set(EvtchnOp) else ()
        outputs = dict(zip(names, row.words, strict=False))
        track.end(call, row.tsc_lo, **{"rc": row.rc, **outputs})

    # --- handlers ------------------------------------------------------------------------------

    def _handler(self, row: Row) -> Slice:
        name = self._facts.irq_names.get((row.dom or 0, row.irq or 0))
        port = f"irq {row.irq}" if row.port is None else f"port {row.port}"
        notes: Notes = {"seq": row.seq, "irq": row.irq, "port": row.port}
        run = self._verdicts.runs.get(row.seq)
        if run is not None:
            notes |= {"cause": run.cause.value, "evidence": run.evidence, "reason": run.reason}
            notes |= {"routes": " + ".join(run.routes), "work": run.work and run.work.value}
        arriving = self._verdicts.arriving.get(row.seq, [])
        return Slice(row.tsc_lo, name or port, "handler", notes, flows_in=arriving)

    # --- tracks --------------------------------------------------------------------------------

    def _vcpu(self, dom: int, vcpu: int) -> Track:
        name = self._facts.domain_names.get(dom)
        process = f"{name} (d{dom})" if name else f"d{dom}"
        return self._track(dom, vcpu, process, f"d{dom}v{vcpu}")

    def _track(self, dom: int, number: int, process: str, thread: str) -> Track:
        track = self._tracks.get((dom, number))
        if track is None:
            pid = (dom + 1) * _PIDS_PER_DOMAIN or _PCPUS
            pen = self._file.add_thread(pid, process, pid + 1 + number, thread)
            track = self._tracks[dom, number] = Track(pen)
        return track


def _call_key(row: Row) -> tuple[int, int, int, int]:
    """Tell calls apart: by their number, else by their vCPU."""
    number = row.call_id or 0
    return row.dom or 0, row.op or 0, number, -1 if number else row.vcpu or 0


def _op_name(op: int) -> str:
    return EvtchnOp(op).name.lower() if op in set(EvtchnOp) else f"EVTCHNOP {op}"


def _send_notes(send: Send) -> Notes:
    target = None if send.to_dom is None else f"d{send.to_dom}:{send.to_port}"
    notes: Notes = {"to": target, "fate": send.fate.value, "reason": send.reason}
    return notes | {"run_seq": send.run_seq}
