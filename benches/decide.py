"""The decisions of `semantics` on the way to a hit, apart from everything else (`decide.rs`)."""

import json
import os
import subprocess

import report
from servers import Failure


def measure(bench):
    bench.say("decide: measuring")
    command = [bench.binaries / "examples/decide", str(2 * bench.options.rounds + 1)]
    core = bench.options.cores[0]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300,
                              preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"decide: {error}") from error
    bench.samples["decide"] = json.loads(done.stdout)


def table(spans):
    look_up = spans["look-up"]
    rows = [[name, f"{span:.0f}", f"{span / look_up:.2f}"]
            for name, span in sorted(spans.items(), key=lambda item: item[1])]
    return report.table(["request", "ns", "to the look-up"], rows)
