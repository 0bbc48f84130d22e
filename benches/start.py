"""How long a start takes, to the first request that is answered: with ten policies, compiled anew and
compiled before, and with none."""

import shutil
import time
from statistics import median

import policies
import report
from servers import Failure, Server, free_port, head, to_origin

ROUNDS, QUICK_ROUNDS = 9, 3
PATIENCE = 60


class Starting(Server):
    """One that is asked from the beginning on, and knows when it has answered."""

    def _await_listener(self, patience):
        begun = time.monotonic()
        while time.monotonic() < begun + PATIENCE:
            if self.process.poll() is not None:
                break
            try:
                status, _ = self.get("/fill/r0/0")
                self.seconds = time.monotonic() - begun
                if status != 200:
                    raise Failure(f"{self.name} answered {status}: {self.last_words()}")
                return
            except Failure as failure:
                if not isinstance(failure.__cause__, ConnectionRefusedError):
                    raise
                time.sleep(0.0005)
        raise Failure(f"{self.name} did not start: {self.last_words()}")


def measure(bench):
    starter = bench.starter
    folder = starter.folder / "start-compiled"
    rounds = QUICK_ROUNDS if bench.options.quick else ROUNDS
    bench.turns = rounds, None
    found = {"without policies": [], "compiled anew": [], "compiled before": []}
    for number in range(rounds):
        bench.say(f"start: round {number + 1} of {rounds}")
        for how, seconds in found.items():
            if how == "compiled anew":
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
            text = policies.routes(how != "without policies")
            port, name = free_port(), f"start-{how.replace(' ', '-')}"
            file = starter.folder / f"{name}.toml"
            file.write_text(configuration(starter, port, folder) + text)
            command = [starter.binaries / "larder", "run", "--config", file]
            with Starting(name, command, port, starter.server_core, starter.folder) as server:
                seconds.append(server.seconds)
    bench.samples["start"] = found


def configuration(starter, port, folder):
    text = head(port, more=f'compiled_cache = "{folder}"')
    return text + '[cache.l1]\nttl = "1h"\n' + to_origin(starter.origin.port)


def table(found):
    rows = [[how if how.startswith("without") else f"ten policies, {how}", f"{median(seconds) * 1000:.0f}",
             f"{max(seconds) * 1000:.0f}"] for how, seconds in found.items()]
    return report.table(["from start to the first answer", "median, ms", "most, ms"], rows)
