#!/usr/bin/env python3
"""holes.py TRACE [--limit PERCENT] [--json]: idle time of the GPU in a trace that --profile wrote, step by step.

A hole is time in which no kernel and no copy runs on any stream of the GPU. A step's time on the GPU is from its first kernel
to the next step's first kernel; kernels belong to the step whose range "step" on the host launched them, a graph's with
its launch. The first recorded step is left out: the device was synchronised before it. Exit code 1 if a hole is longer
than PERCENT of its step (default 1)."""

import argparse
import gzip
import json
import sys

ON_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}


def read_events(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        return [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]


def host_steps(events, name):
    """(start, end) of the ranges of this name on the host, in time order."""
    return sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "user_annotation" and e["name"] == name)


def work_of_steps(events, steps):
    """For each step, the GPU's events that it launched."""
    launched = {}
    for event in events:
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {}):
            for index, (start, end) in enumerate(steps):
                if start <= event["ts"] < end:
                    launched[event["args"]["correlation"]] = index
    work = [[] for _ in steps]
    for event in events:
        if event.get("cat") in ON_GPU:
            index = launched.get(event.get("args", {}).get("correlation"))
            if index is not None:
                work[index].append(event)
    return work


def holes_between(begin, end, events):
    """Gaps of the union of the events' times within [begin, end): (length, name before, name after)."""
    found, reached, last = [], begin, "(begin of the step)"
    for event in sorted(events, key=lambda e: e["ts"]):
        if event["ts"] >= end:
            break
        if event["ts"] > reached:
            found.append((event["ts"] - reached, last, event["name"]))
        if event["ts"] + event["dur"] > reached:
            reached, last = event["ts"] + event["dur"], event["name"]
    if reached < end:
        found.append((end - reached, last, "(next step)"))
    return found


def analyse(events, name="step"):
    """One object for each whole step after the first: times in microseconds, shares of the step."""
    work = [w for w in work_of_steps(events, host_steps(events, name)) if w]
    starts = [min(e["ts"] for e in w) for w in work]
    everything = [e for e in events if e.get("cat") in ON_GPU]
    out = []
    for index in range(1, len(work)):
        end = starts[index + 1] if index + 1 < len(work) else max(e["ts"] + e["dur"] for e in work[index])
        length = end - starts[index]
        holes = holes_between(starts[index], end, everything)
        longest = max(holes, default=(0.0, "", ""))
        out.append({"step_us": length, "idle_us": sum(h[0] for h in holes), "longest_hole_us": longest[0],
                    "longest_hole_share": longest[0] / length, "before": longest[1], "after": longest[2]})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trace")
    parser.add_argument("--limit", type=float, default=1.0, help="per cent of a step that a hole may last")
    parser.add_argument("--json", action="store_true")
    own = parser.parse_args()
    steps = analyse(read_events(own.trace))
    if not steps:
        print(f"{own.trace}: no two steps with work on a GPU", file=sys.stderr)
        return 2
    if own.json:
        print(json.dumps(steps))
    else:
        for step in steps:
            print(f"step of {step['step_us'] / 1e3:.3f} ms on the GPU: idle {100 * step['idle_us'] / step['step_us']:.2f} %, "
                  f"longest hole {step['longest_hole_us']:.1f} us = {100 * step['longest_hole_share']:.3f} % "
                  f"(after {step['before'][:60]}, before {step['after'][:60]})")
    return 1 if any(100 * step["longest_hole_share"] > own.limit for step in steps) else 0


if __name__ == "__main__":
    sys.exit(main())
