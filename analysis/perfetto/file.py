"""A file of Perfetto's trace format: packets written one after the other (package perfetto)."""

from importlib.util import find_spec
from typing import IO, Any

from evtrace.analysis.perfetto.slices import Notes, Pen, Point, Slice
from evtrace.errors import UsageError

_Packet = Any
"""A protobuf message of the package, whose types are not read (pyproject.toml)."""

_LANE = 1 << 32
"""A lane's number is its thread's plus a multiple of this."""


def require_package() -> None:
    """Raise `UsageError` if the package perfetto is not installed."""
    if find_spec("perfetto") is None:
        message = "a file for Perfetto needs a package more: pip install 'evtrace[perfetto]'"
        raise UsageError(message)


class PerfettoFile:
    """Writes tracks, slices and instants; counts them."""

    def __init__(self, file: IO[bytes], tsc_hz: int) -> None:
        """Write nothing yet."""
        from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (  # noqa: PLC0415
            TracePacket,
            TrackEvent,
        )
        from perfetto.trace_builder.proto_builder import (  # noqa: PLC0415  loads protobuf
            StreamingTraceProtoBuilder,
        )

        self._builder = StreamingTraceProtoBuilder(file)
        self._types = TrackEvent
        self._starts_sequence = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        self._hz = tsc_hz
        self._processes: set[int] = set()
        self.slices = self.flows = self.tracks = 0

    def add_thread(self, pid: int, process: str, tid: int, thread: str) -> Pen:
        """Add a thread's track, and the track of its process with its first thread."""
        if pid not in self._processes:
            self._processes.add(pid)
            packet = self._packet()
            packet.track_descriptor.uuid = pid
            packet.track_descriptor.process.pid = pid
            packet.track_descriptor.process.process_name = process
            self._builder.write_packet(packet)
        packet = self._packet()
        packet.track_descriptor.uuid = tid
        packet.track_descriptor.parent_uuid = pid
        packet.track_descriptor.thread.pid = pid
        packet.track_descriptor.thread.tid = tid
        packet.track_descriptor.thread.thread_name = thread
        self._builder.write_packet(packet)
        self.tracks += 1
        return _ThreadPen(self, tid, thread)

    def add_lane(self, parent: int, uuid: int, name: str) -> None:
        """Add a track below a thread's, for what does not nest in it."""
        packet = self._packet()
        packet.track_descriptor.uuid = uuid
        packet.track_descriptor.parent_uuid = parent
        packet.track_descriptor.name = name
        self._builder.write_packet(packet)
        self.tracks += 1

    def begin(self, track: int, at: int, slice_: Slice) -> None:
        """Begin a slice."""
        packet = self._event(track, at, self._types.TYPE_SLICE_BEGIN)
        event = packet.track_event
        event.name = slice_.name
        event.categories.append(slice_.category)
        event.flow_ids.extend(slice_.flows_out)
        event.terminating_flow_ids.extend(slice_.flows_in)
        _annotate(event, slice_.notes)
        self._builder.write_packet(packet)
        self.slices += 1
        self.flows += len(slice_.flows_in)

    def end(self, track: int, at: int) -> None:
        """End the slice that began last."""
        self._builder.write_packet(self._event(track, at, self._types.TYPE_SLICE_END))

    def point(self, track: int, at: int, point: Point) -> None:
        """Draw an instant."""
        packet = self._event(track, at, self._types.TYPE_INSTANT)
        packet.track_event.name = point.name
        packet.track_event.categories.append("send")
        packet.track_event.terminating_flow_ids.extend(point.flows_in)
        self.flows += len(point.flows_in)
        _annotate(packet.track_event, point.notes)
        self._builder.write_packet(packet)

    def _event(self, track: int, at: int, kind: int) -> _Packet:
        packet = self._packet()
        packet.timestamp = max(0, at * 1_000_000_000 // self._hz)
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet

    def _packet(self) -> _Packet:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = 1
        if self._starts_sequence:
            packet.sequence_flags = self._starts_sequence
            self._starts_sequence = 0
        return packet


class _ThreadPen:
    """Draws on a thread's track and on the lanes beside it."""

    def __init__(self, file: PerfettoFile, tid: int, name: str) -> None:
        self._file = file
        self._tid = tid
        self._name = name
        self._lanes = 1

    def begin(self, lane: int, tsc: int, slice_: Slice) -> None:
        """Begin a slice."""
        while lane >= self._lanes:
            name = f"{self._name}, overlapping"
            self._file.add_lane(self._tid, self._tid + self._lanes * _LANE, name)
            self._lanes += 1
        self._file.begin(self._tid + lane * _LANE, tsc, slice_)

    def end(self, lane: int, tsc: int) -> None:
        """End the slice of the lane that began last."""
        self._file.end(self._tid + lane * _LANE, tsc)

    def point(self, tsc: int, point: Point) -> None:
        """Draw an instant on the thread's track."""
        self._file.point(self._tid, tsc, point)


def _annotate(event: _Packet, notes: Notes) -> None:
    """Add the arguments that are known."""
    for name, value in notes.items():
        if value is None or value == "":
            continue
        note = event.debug_annotations.add()
        note.name = name
        match value:
            case bool():
                note.bool_value = value
            case int():
                note.int_value = value
            case _:
                note.string_value = str(value)
