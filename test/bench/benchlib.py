"""What the benchmarks share: running the engine, fio and others, timing them, and printing tables.

Standard library only. Nothing here asserts a time: the scripts print what they measured, and a person judges.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20


class BenchError(Exception):
    """Something that the person at the keyboard has to know, without a stack trace."""


def main(run):
    """Runs `run()`; a BenchError ends the program with its text and status 1."""
    try:
        run()
    except BenchError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def options(description, **defaults):
    """An argument parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--core", type=int, default=default_core(), help="core that does the I/O")
    parser.add_argument("--rounds", type=int, default=defaults.get("rounds", 3), help="rounds; the median counts")
    if "seconds" in defaults:
        parser.add_argument("-t", "--seconds", type=int, default=defaults["seconds"], help="seconds of each measurement")
    if "depths" in defaults:
        parser.add_argument("--depths", type=int, nargs="+", default=defaults["depths"], help="queue depths")
    parser.add_argument("--extra", default="", help="further arguments of io-engine, separated by spaces")
    parser.add_argument("--output", help="also write the results to this file, as JSON")
    return parser


def default_core():
    """The last core that this process may use: interrupts and daemons tend to live on the first ones."""
    return max(os.sched_getaffinity(0))


def binary():
    path = os.environ.get("IO_ENGINE") or os.path.join(
        os.environ.get("CARGO_TARGET_DIR") or os.path.join(REPO, "target"), "release", "io-engine"
    )
    if not os.access(path, os.X_OK):
        raise BenchError(f"{path} is not there: cargo build --release, or set IO_ENGINE to the binary")
    return os.path.abspath(path)


def require(command, package):
    path = shutil.which(command)
    if not path:
        raise BenchError(f"{command} is not installed (Debian: apt-get install {package})")
    return path


def scratch_dir():
    """A directory on a real file system, for files that are opened with O_DIRECT."""
    path = os.environ.get("BENCH_DIR") or os.path.join(os.environ.get("CARGO_TARGET_DIR") or REPO + "/target", "bench")
    os.makedirs(path, exist_ok=True)
    return os.path.abspath(path)


# ---- running things -----------------------------------------------------------------------------------------------


class Run:
    """A finished process: what it printed, what it cost, how long it took."""

    def __init__(self, stdout, stderr, wall_s, rusage):
        self.stdout, self.stderr, self.wall_s = stdout, stderr, wall_s
        # wait4 counts the process with all its threads, and the children that it has waited for.
        self.cpu_s = rusage.ru_utime + rusage.ru_stime


def run(command, core=None, watch=None, timeout_s=600, cwd=None):
    """Runs a command to its end. `core` pins the whole process; `watch(pid, elapsed_s)` is called a few times a second."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        began = time.monotonic()
        child = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=pin)
        pidfd = os.pidfd_open(child.pid)
        try:
            # The pidfd becomes readable the moment the process ends; nothing polls meanwhile.
            while not select.select([pidfd], [], [], 0.2 if watch else 5)[0]:
                elapsed_s = time.monotonic() - began
                if elapsed_s > timeout_s:
                    raise BenchError(f"ran for more than {timeout_s} s: {' '.join(command)}")
                if watch:
                    watch(child.pid, elapsed_s)
            wall_s = time.monotonic() - began
            _, status, rusage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            os.close(pidfd)
            if child.returncode is None:
                child.kill()
                child.wait()
        out.seek(0)
        err.seek(0)
        done = Run(out.read().decode(errors="replace"), err.read().decode(errors="replace"), wall_s, rusage)
    if child.returncode != 0:
        raise BenchError(
            f"status {child.returncode} from: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done


def json_in(text, what):
    """The JSON object in a program's output, which may begin with lines of another kind."""
    for match in re.finditer(r"^\{", text, re.MULTILINE):
        with contextlib.suppress(ValueError):
            return json.JSONDecoder().raw_decode(text[match.start() :])[0]
    raise BenchError(f"no JSON in the output of {what}:\n{text[-2000:]}")


class Perf:
    """One run of `io-engine perf`."""

    def __init__(self, done, seconds):
        result = json_in(done.stdout, "io-engine perf")
        self.run = done
        self.total = result["total"]
        self.iops = float(self.total["iops"])
        errors = self.total.get("errors", 0)
        if errors:
            raise BenchError(f"{errors} I/Os failed:\n{done.stdout[-2000:]}")
        if self.iops <= 0:
            raise BenchError(f"no I/O was done:\n{done.stdout[-2000:]}")
        self.ios = self.total.get("ios") or self.iops * seconds
        self.cpu_ns_per_io = done.cpu_s * 1e9 / self.ios


def perf_command(uris, core, depth, pattern, limit, size=4096, extra=""):
    """`limit` is ("-t", seconds) or ("-n", number of I/Os)."""
    return (
        [binary(), "perf", *uris, "-q", str(depth), "-o", str(size), "-w", pattern]
        + [limit[0], str(limit[1]), "-l", str(core), "--json"]
        + extra.split()
    )


def perf(uris, core, depth, pattern, seconds, size=4096, extra="", watch=None):
    command = perf_command(uris, core, depth, pattern, ("-t", seconds), size, extra)
    return Perf(run(command, watch=watch, timeout_s=seconds + 120), seconds)


# ---- the daemon ---------------------------------------------------------------------------------------------------


def rpc(socket_path, method, params=None, timeout_s=10.0):
    """One JSON-RPC call; the answer's result. The stream has no framing: the answer ends where its JSON ends."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        request["params"] = params
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        peer.connect(socket_path)
        peer.sendall(json.dumps(request).encode())
        got = b""
        while True:
            part = peer.recv(1 << 16)
            got += part
            with contextlib.suppress(ValueError):
                answer = json.loads(got)
                break
            if not part:
                raise BenchError(f"{method}: the answer ended early: {got[:200]!r}")
    if "error" in answer:
        raise BenchError(f"{method}: {answer['error']}")
    return answer["result"]


class Daemon:
    """A daemon of our own, in a directory of its own, stopped at the end of the `with` block."""

    def __init__(self, arguments, ready_within_s=20.0):
        self.arguments, self.ready_within_s = arguments, ready_within_s
        self.ready_s = None

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="io-engine-bench.")
        self.socket = os.path.join(self.dir, "rpc.sock")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        command = [binary(), *self.arguments, "-r", self.socket]
        began = time.monotonic()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            while self.ready_s is None:
                with contextlib.suppress(OSError):
                    rpc(self.socket, "rpc_get_methods")
                    self.ready_s = time.monotonic() - began
                    break
                if self.child.poll() is not None:
                    raise BenchError(f"the daemon ended with status {self.child.returncode}:\n{self.output()}")
                if time.monotonic() - began > self.ready_within_s:
                    raise BenchError(f"no answer within {self.ready_within_s} s:\n{self.output()}")
                time.sleep(0.0005)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, *_):
        status = self.stop()
        if kind is None and status != 0:
            raise BenchError(f"the daemon ended with status {status} after SIGTERM:\n{self.last_output}")

    def output(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as log:
            return log.read()[-3000:]

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()
        self.last_output = self.output()
        shutil.rmtree(self.dir, ignore_errors=True)
        return self.child.returncode

    @property
    def pid(self):
        return self.child.pid


def thread_cpu_ns(pid):
    """Thread id → (name, nanoseconds on a core, voluntary context switches) of every thread of a process."""
    threads = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        base = f"/proc/{pid}/task/{tid}/"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = read(base + "comm").strip()
            try:
                cpu_ns = int(read(base + "schedstat").split()[0])
            except FileNotFoundError:
                fields = read(base + "stat").rsplit(")", 1)[1].split()
                cpu_ns = (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")
            switches = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", read(base + "status"), re.MULTILINE)
            threads[tid] = (name, cpu_ns, int(switches[1]) if switches else 0)
    return threads


def read(path):
    with open(path) as file:
        return file.read()


# ---- files --------------------------------------------------------------------------------------------------------


def full_file(path, size):
    """A file whose every block is allocated and was written with data that no layer can shorten."""
    if os.path.exists(path) and os.path.getsize(path) == size and os.stat(path).st_blocks * 512 >= size:
        return path
    print(f"writing {path}, {size // MIB} MiB", file=sys.stderr)
    chunk = os.urandom(4 * MIB)
    with open(path, "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        for at in range(0, size, len(chunk)):
            # Another beginning for every chunk, so that equal blocks cannot be found and shared.
            file.write((at.to_bytes(8, "little") + chunk[8:])[: size - at])
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def check_direct(path):
    """O_DIRECT is what is measured; a file system that refuses it would measure the page cache instead."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        raise BenchError(f"{path} cannot be opened with O_DIRECT ({error.strerror}): set BENCH_DIR to another place")


# ---- reporting ----------------------------------------------------------------------------------------------------


def median(values):
    return statistics.median(values)


def count(value):
    """1234567 → 1.235 M"""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3f}{unit}"
    return f"{value:.1f}"


def table(headings, rows):
    texts = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    for number, row in enumerate(texts):
        print("  ".join(cell.ljust(w) if column == 0 else cell.rjust(w) for column, (cell, w) in enumerate(zip(row, widths))))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def machine():
    """A line about where this ran, for the head of a report."""
    model = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", read("/proc/meminfo"), re.MULTILINE)[1]) // (1 << 20)
    return f"{model[1] if model else os.uname().machine}, {os.cpu_count()} cores, {memory} GiB, Linux {os.uname().release}"


def save(path, results):
    if path:
        with open(path, "w") as file:
            json.dump({"machine": machine(), "results": results}, file, indent=2)
            file.write("\n")
