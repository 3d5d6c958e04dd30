"""Stands in for the interpreter in tests: `-m MODULE …` of a module that a fork server has loaded becomes a fork of it, all else itself.

`tests.fork_server` makes an executable of this file. It knows nothing but the standard library, and starts in 20 ms. To whoever
started it, it is the process: it passes descriptors, folder, environment and signals on, and ends as the fork ends. When it is
killed, its fork is killed.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(real: str, servers: dict[str, str]) -> None:
    """`real`: path of the interpreter. `servers`: from the first words after `-m` to a server's socket."""
    words = sys.argv[1:]
    server = next((servers[name] for name in servers if words[: len(name.split())] == name.split()), None)
    if server is None:
        os.execv(real, [real, *words])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(server)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    descriptors = [int(name) for name in os.listdir("/proc/self/fd") if _open(int(name), connection)]
    request = {
        "words": words,
        "executable": sys.argv[0],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "own_session": os.getsid(0) == os.getpid(),
        "descriptors": descriptors,
    }
    text = json.dumps(request).encode()
    socket.send_fds(connection, [len(text).to_bytes(4, "little")], descriptors)
    connection.sendall(text)
    code = int.from_bytes(connection.recv(4), "little", signed=True)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def _open(number: int, connection: socket.socket) -> bool:
    """Not the connection, and not what listed the folder and is closed again."""
    if number == connection.fileno():
        return False
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
