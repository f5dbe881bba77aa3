"""A side of a comparison whose domains and ports have other numbers, and nothing else."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from evtrace.analysis.diff.calls import Made, Told
from evtrace.analysis.diff.operations import given_to, port_owner
from evtrace.analysis.diff.side import Side
from evtrace.replay.results import Results
from evtrace.replay.snapshots import SeenChannel, SeenDomain
from evtrace.tracefile.coverage import CoverageMap
from evtrace.tracefile.facts import Facts
from evtrace.verdicts import Contribution, Run, Send
from evtrace.xen.abi import PortState


class Renumbering:
    """Gives domains and ports their other numbers."""

    def __init__(self, dom: Callable[[int], int], port: Callable[[int, int], int]) -> None:
        """`port` takes the domain, by its first number, and the port."""
        self.dom, self.port = dom, port

    def of(self, side: Side) -> Side:
        """Give a side by its other numbers."""
        source = side.source
        facts = self._facts(source.facts)
        found = Side(
            replace(
                source,
                facts=facts,
                coverage=_Renumbered(source.coverage, facts),
                results=self._results(source.results),
            ),
            side.rows,
            side.start_tsc,
        )
        found.__dict__["told"] = Told(
            [self._call(made) for made in side.told.calls],
            [self._snapshot(seen) for seen in side.told.snapshots],
        )
        return found

    def _facts(self, facts: Facts) -> Facts:
        def moved(known):
            return {self.dom(dom): value for dom, value in known.items()}

        return replace(
            facts,
            forms=moved(facts.forms),
            guest_types=moved(facts.guest_types),
            domain_names=moved(facts.domain_names),
            vcpus=moved(facts.vcpus),
            clock_offsets=moved(facts.clock_offsets),
            irq_names={(self.dom(dom), irq): it for (dom, irq), it in facts.irq_names.items()},
            coverage=[
                replace(one, dom=None if one.dom is None else self.dom(one.dom))
                for one in facts.coverage
            ],
        )

    def _results(self, results: Results) -> Results:
        verdicts = results.upcall_verdicts.items()
        return replace(
            results,
            runs=[self._run(run) for run in results.runs],
            sends=[self._send(send) for send in results.sends],
            upcalls=Counter({self.dom(dom): n for dom, n in results.upcalls.items()}),
            empty_upcalls=Counter({self.dom(dom): n for dom, n in results.empty_upcalls.items()}),
            upcall_verdicts=Counter({(self.dom(dom), why): n for (dom, why), n in verdicts}),
            empty=[replace(one, dom=self.dom(one.dom)) for one in results.empty],
        )

    def _run(self, run: Run) -> Run:
        return replace(
            run,
            dom=self.dom(run.dom),
            port=None if run.port is None else self.port(run.dom, run.port),
            contributors=[self._contribution(one) for one in run.contributors],
        )

    def _contribution(self, one: Contribution) -> Contribution:
        return replace(one, dom=self.dom(one.dom), port=self.port(one.dom, one.port))

    def _send(self, send: Send) -> Send:
        to_dom, to_port = send.to_dom, send.to_port
        if to_dom is not None and to_port is not None:
            to_dom, to_port = self.dom(to_dom), self.port(to_dom, to_port)
        port = self.port(send.dom, send.port)
        return replace(send, dom=self.dom(send.dom), port=port, to_dom=to_dom, to_port=to_port)

    def _call(self, made: Made) -> Made:
        args = []
        for name, value in made.args or ():
            if "dom" in name:
                args.append((name, self.dom(value)))
            elif "port" in name:
                args.append((name, self.port(port_owner(made, name), value)))
            else:
                args.append((name, value))
        out = made.out
        owner = given_to(made)
        if owner is not None and made.rc == 0 and out:
            out = (self.port(owner, out[0]), *out[1:])
        given = None if made.args is None else tuple(args)
        return replace(made, dom=self.dom(made.dom), args=given, out=out)

    def _snapshot(self, seen: SeenDomain) -> SeenDomain:
        channels = [self._channel(seen.dom, channel) for channel in seen.channels]
        return replace(seen, dom=self.dom(seen.dom), channels=channels)

    def _channel(self, dom: int, seen: SeenChannel) -> SeenChannel:
        peer, peer_port = seen.peer, seen.peer_port
        if seen.state is PortState.INTERDOMAIN:
            peer, peer_port = self.dom(peer), self.port(peer, peer_port)
        elif seen.state is PortState.UNBOUND:
            peer = self.dom(peer)
        return replace(seen, port=self.port(dom, seen.port), peer=peer, peer_port=peer_port)


class _Renumbered(CoverageMap):
    """What was captured, by other numbers."""

    def __init__(self, coverage: CoverageMap, facts: Facts) -> None:
        self.__dict__.update(coverage.__dict__)
        self._facts = facts
        self.intervals = list(facts.coverage)
        self._spans = {}
