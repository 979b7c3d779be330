"""
Runs a command in a network namespace of its own, where the loopback interface is all there is.

Airflow's log servers listen on all interfaces. Where namespaces are not to be had (they need root or user namespaces,
and Linux) the command runs without one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def main(command: list[str]) -> None:
    """Replace this process by the command."""
    user = 0 if os.geteuid() == 0 else CLONE_NEWUSER
    if sys.platform == "linux" and ctypes.CDLL(None).unshare(CLONE_NEWNET | user) == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    else:
        print("no network namespace to be had: Airflow's log servers listen on all interfaces", file=sys.stderr)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
