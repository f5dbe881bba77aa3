"""What the hot paths cost, as ratios within one run (`make bench`); no assertion, no wall time.

Each figure is the minimum of several rounds, and is given against a yardstick of the same run, so
that two machines, or two commits on one, can be compared.
"""

import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from evtrace.analysis.stock.analyse import analyse_stock
from evtrace.api import Trace
from evtrace.commands.import_ import import_
from evtrace.tracefile.reader import open_trace
from evtrace.tracefile.rows import annotated, timeline

SOURCES = Path(__file__).parents[2] / "traces" / "sources"
ROUNDS = 5
COPIES = 8


def fastest(work: Callable[[], object]) -> float:
    """Give the seconds of the fastest of several rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def plain_loop(data: bytes) -> int:
    """Step through records with struct, as a first sketch would: the yardstick of the walk."""
    count = at = 0
    unpack = struct.Struct("<I").unpack_from
    while at + 4 <= len(data):
        (header,) = unpack(data, at)
        extra = header >> 28 & 7
        if header >> 31:
            struct.unpack_from("<Q", data, at + 4)
            at += 8
        struct.unpack_from(f"<{extra}I", data, at + 4)
        at += 4 + 4 * extra
        count += 1
    return count


def survey(path: Path) -> int:
    with open_trace(path) as reader:
        return reader.survey.records


def rows(path: Path) -> int:
    with open_trace(path) as reader:
        return sum(batch.height for batch in timeline(reader))


def stock(path: Path) -> int:
    with open_trace(path) as reader:
        made = analyse_stock(annotated(reader), reader.survey, reader.facts.tsc_hz)
        return len(made.tables)


def replay(path: Path) -> int:
    with Trace(path) as trace:
        return len(trace.replay().runs)


def report(path: Path) -> int:
    with Trace(path) as trace:
        return len(trace.report().tables)


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        big, imported = Path(folder, "big.bin"), Path(folder, "imported.bin")
        packed = (SOURCES / "dom0_lost" / "xentrace.bin.zst").read_bytes()
        data = zstandard.ZstdDecompressor().decompress(packed, 1 << 26)
        big.write_bytes(data * COPIES)
        source = SOURCES / "dom0_self20"
        import_(
            output=imported,
            xentrace=source / "xentrace.bin.zst",
            ftrace=[f"0={source / 'dom0.ftrace.txt.zst'}"],
            debug_keys=[str(source / "before.debugkeys.txt")],
        )
        loop = fastest(lambda: plain_loop(data)) * COPIES
        walk, ordered = fastest(lambda: survey(big)), fastest(lambda: rows(big))
        alone = fastest(lambda: stock(big))
        read, replayed = fastest(lambda: rows(imported)), fastest(lambda: replay(imported))
        reported = fastest(lambda: report(imported))
        bare, start = (
            fastest(lambda: python("-c", "")),
            fastest(lambda: python("-m", "evtrace", "--help")),
        )
    megabytes = len(data) * COPIES / 1e6
    print(f"record walk   {loop / walk:6.1f} x as fast as a plain struct loop  ", end="")
    print(f"({megabytes / walk:,.0f} MB/s)")
    print(f"timeline      {ordered / walk:6.1f} x the time of the walk             ", end="")
    print(f"({megabytes / ordered:,.0f} MB/s)")
    print(f"stock         {alone / ordered:6.1f} x the time of the timeline         ", end="")
    print(f"({megabytes / alone:,.0f} MB/s)")
    print(f"replay        {replayed / read:6.1f} x the time of reading its timeline")
    print(f"report        {reported / replayed:6.1f} x the time of the replay")
    print(f"evtrace       {start / bare:6.1f} x the start-up of bare Python")


if __name__ == "__main__":
    main()
