"""Mail at a steady pace, and what each message took: the client of bench.imports, a process of its own, so that it measures the relay and not its neighbour.

    python -m bench.pulse PORT RATE      until standard input ends; a line "UTC-seconds milliseconds" for each message

Milliseconds are from MAIL to the 250 after DATA, on connections that stay.
"""

from __future__ import annotations

import random
import smtplib
import sys
import threading
import time

CLIENTS = 4
BODY = "x" * 70 + "\r\n"


def client(number: int, port: int, rate: float, stop: threading.Event) -> None:
    """Sends `rate` messages a second, as they happen to come."""
    chance = random.Random(number)
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        while not stop.wait(chance.expovariate(rate)):
            at, started = time.time(), time.perf_counter()
            smtp.sendmail("shop@bench.example", [f"u{chance.random()}@fast.test"], f"Subject: x\r\n\r\n{BODY * 28}")
            sys.stdout.write(f"{at:.3f} {(time.perf_counter() - started) * 1e3:.3f}\n")


def main() -> None:
    port, rate, stop = int(sys.argv[1]), float(sys.argv[2]), threading.Event()
    threads = [threading.Thread(target=client, args=(n, port, rate / CLIENTS, stop)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
