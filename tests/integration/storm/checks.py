"""Verdicts: over each request, over what the origins saw of it, and over the access log."""

import collections
import json

from storm.plan import (
    CUT, SWITCHED_OFF, WHOLE, TunnelPlan, allowed_ends, arrivals_max, tag_of)


class Verdict:
    """The problems of a storm, each with all that is known of its request."""

    def __init__(self, seed, records, ledger, lines):
        self.seed, self.records, self.ledger = seed, records, ledger
        self.lines = collections.defaultdict(list)
        for line in lines:
            line = json.loads(line)
            self.lines[line["target"].rpartition("/")[2]].append(line)
        self.problems = []

    def blame(self, number, what):
        self.problems.append((number, what))

    def tell(self, most=8):
        """A text for people."""
        counts = collections.Counter(what.split(":")[0] for _, what in self.problems)
        text = [f"seed {self.seed}: {len(self.problems)} problems: {dict(counts)}"]
        told = set()
        for number, what in self.problems:
            # The first of each kind says most.
            if len(told) == most or what.split(":")[0] in told:
                continue
            told.add(what.split(":")[0])
            text += ["", f"{number}: {what}"]
            if number in self.records:
                text.append(self.records[number].tell())
            text += [f"  at the origin: {a}" for a in self.ledger["arrivals"].get(number, [])]
            text += [f"  access log: {line}" for line in self.lines.get(number, [])]
        return "\n".join(text)

    def judge(self, possible, stopping):
        """`possible(begun, ended)`: the names of the configurations that held. `stopping`: the
        program ended under its clients.
        """
        for number, record in self.records.items():
            names = possible(record.begun, record.ended or record.begun)
            record.fragile = record.fragile or stopping
            problem = (judge_tunnel(record) if isinstance(record.plan, TunnelPlan)
                       else judge_request(record, names))
            if problem:
                self.blame(number, problem)
        for number, arrivals in self.ledger["arrivals"].items():
            self.judge_arrivals(number, arrivals)
        for number, record in self.records.items():
            self.judge_lines(number, record)
        for failure in self.ledger["failures"]:
            self.blame("origins", failure)

    def judge_arrivals(self, number, arrivals):
        record = self.records.get(number)
        if record is None:
            self.blame(number, f"the origin saw a request that no client sent: {arrivals[0]}")
            return
        tunnel = isinstance(record.plan, TunnelPlan)
        most = 2 if tunnel else arrivals_max(record.plan)
        if len(arrivals) > most:
            self.blame(number, f"too many arrivals: {len(arrivals)}, at most {most}")
        for arrival in arrivals:
            if arrival["wrong"]:
                self.blame(number, f"the origin was sent something else: {arrival['wrong']}")
            if arrival["whole"] and not record.sent_all:
                self.blame(number, "whole at the origin, and not at the client")

    def judge_lines(self, number, record):
        lines, arrivals = self.lines.get(number, []), self.ledger["arrivals"].get(number, [])
        if len(lines) > 1:
            self.blame(number, f"more than one line in the access log: {len(lines)}")
        # A head that is too large is refused before its target is known.
        if not lines and (record.status not in (None, 431) or arrivals):
            self.blame(number, "no line in the access log")
        if not lines or record.end not in ("whole", "cut") or record.status is None:
            return
        line = lines[0]
        status = 101 if isinstance(record.plan, TunnelPlan) and record.status == 200 else (
            record.status)
        if line["status"] != status:
            self.blame(number, f"another status in the access log: {line['status']}")
        if record.end == "whole" and not record.own() and (
                not isinstance(record.plan, TunnelPlan) and line["bytes_out"] != record.got):
            self.blame(number, f"other bytes in the access log: {line['bytes_out']}")


def judge_request(record, names):
    """What is wrong with how a request ended; None if nothing is."""
    plan, ends = record.plan, allowed_ends(record.plan)
    stated = record.value("x-id")
    if stated not in (None, plan.id):
        return f"somebody else's answer: {stated}"
    if record.wrong:
        return f"a wrong body: {record.wrong}"
    if record.end in ("cancelled", "dropped"):
        return None
    if record.end == "hung":
        return "no end in time"
    if record.fragile and (record.end == "cut" or record.own()):
        return None
    if record.end == "closed":
        # A cut in its head: what was not sent yet when the connection was reset.
        allowed = record.fragile or record.session == "half-closed" or CUT in ends
        return None if allowed else "closed without an answer"
    if record.end == "cut":
        # A FIN may be seen when the answer has begun, and ends it as it would the wait for it.
        allowed = CUT in ends or record.session == "half-closed"
        return None if allowed else f"cut: allowed are {ends}"
    if record.own():
        return judge_page(record, ends, names)
    return judge_answer(record, ends, names)


def judge_page(record, ends, names):
    plan, status = record.plan, record.status
    if plan.group == "switch" and "b" in names and status == 503:
        body = b"" if plan.method == "HEAD" else SWITCHED_OFF
        return None if record.text == body else f"another page: {record.text[:100]!r}"
    if plan.group == "switch" and "a" not in names and status == 503:
        return "a page of another configuration"
    return None if status in ends else f"a page with {status}: allowed are {ends}"


def judge_answer(record, ends, names):
    plan = record.plan
    if WHOLE not in ends:
        return f"an answer that looks whole: allowed are {ends}"
    if record.status != plan.status:
        return f"another status: {record.status}"
    if record.got != len(plan.download()):
        return f"looks whole: {record.got} of {len(plan.download())} bytes"
    if record.value("x-config") not in names:
        return f"another configuration: {record.value('x-config')}, possible are {names}"
    if plan.trailers and plan.takes_trailers and not plan.bodyless and (
            ("x-down", tag_of(plan.id, "down")) not in record.trailers):
        return f"other trailers: {record.trailers}"
    if plan.group == "switch" and "a" not in names:
        return "an answer through a route that was switched off"
    return None


def judge_tunnel(record):
    plan, total = record.plan, sum(record.plan.pieces)
    stated = record.value("x-id")
    if stated not in (None, plan.id):
        return f"somebody else's tunnel: {stated}"
    if record.wrong:
        return f"a wrong echo: {record.wrong}"
    if record.end in ("cancelled", "dropped"):
        return None
    if record.end == "hung":
        return "no end in time"
    if record.fragile and record.end in ("closed", "cut"):
        return None
    if record.end == "closed":
        return "closed without an answer"
    if plan.fault == "refuse":
        return None if (record.end, record.status) == ("whole", 403) else "a tunnel not refused"
    if record.status not in (101, 200):
        return f"a tunnel refused: {record.status}"
    if plan.fault == "cut":
        visible = record.end == "cut" or not record.shows_cuts
        return None if visible and record.got <= plan.after else "a cut tunnel looks whole"
    expected = plan.after if plan.fault == "ends" else total
    if record.end != "whole" or record.got != expected:
        return f"a tunnel: {record.end} after {record.got} of {expected} bytes"
    return None
