"""Runs `larder top` on a real terminal: terminal.py LARDER ADMIN END

END is how it is ended: `q`, `ctrl-c`, `sigterm`, `sigint`, or `panic`; or `slow`, by `q` while it waits for an answer,
which a line on standard input says. Prints what is wrong; nothing is good.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

larder, admin, end = sys.argv[1:]
COLUMNS, ROWS = 40, 12

main, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
before = termios.tcgetattr(terminal)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(terminal, fd)
    os.environ.clear()
    if end == "panic":
        # No thread can have such a stack, so the one that reads keys does not start.
        os.environ["RUST_MIN_STACK"] = str(1 << 60)
    os.execv(larder, ["larder", "top", "--admin", admin, "--interval", "50ms"])

seen = b""


def read_until(wanted, patience=30):
    global seen
    limit = time.monotonic() + patience
    while wanted not in seen:
        ready, _, _ = select.select([main], [], [], max(0, limit - time.monotonic()))
        if not ready:
            sys.exit(f"`{wanted}` is never drawn, but {seen[-2000:]}")
        seen += os.read(main, 65536)


def ends_with(code):
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != code:
        print(f"it ends with {os.waitstatus_to_exitcode(status)}")
    if termios.tcgetattr(terminal) != before:
        print("the terminal is not as it was")


ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
if end == "panic":
    read_until(b"panicked at")
    if ENTER not in seen or LEAVE not in seen.split(ENTER)[1].split(b"panicked at")[0]:
        print(f"the message is on the other screen: {seen}")
    # What is written late would stop it otherwise.
    read_until(b"RUST_BACKTRACE")
    ends_with(101)
    sys.exit()

read_until(b"requests since")
if end == "slow":
    while sys.stdin not in (ready := select.select([main, sys.stdin], [], [], 60)[0]):
        if not ready:
            sys.exit("it does not wait")
        os.read(main, 65536)
    os.write(main, b"q")
    # The answer itself would be given up after ten seconds.
    read_until(LEAVE, 8)
    ends_with(0)
    sys.exit()
while_drawn = termios.tcgetattr(terminal)
if while_drawn[3] & (termios.ECHO | termios.ICANON):
    print("keys are echoed")
frames = seen.split(b"\x1b[H")[1:-1]
for frame in frames:
    rows = frame.split(b"\x1b[J")[0].split(b"\r\n")
    if len(rows) > ROWS:
        print(f"{len(rows)} rows on {ROWS}")
    for row in rows:
        text = row.replace(b"\x1b[K", b"").decode()
        if len(text) > COLUMNS or "\x1b" in text:
            print(f"a row does not fit: {text!r}")
# A smaller one while it runs.
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 3, 10, 0, 0))
seen = b""
read_until(b"larder: pa\x1b[K")
if end in ("sigterm", "sigint"):
    os.kill(child, signal.Signals[end.upper()])
else:
    os.write(main, {"q": b"xq", "ctrl-c": b"\x03"}[end])
read_until(LEAVE)
ends_with(0)
