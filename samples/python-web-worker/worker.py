"""Says every few seconds that it works, until it is told to stop."""

import os
import signal
import threading

stopped = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopped.set())

count = 0
while not stopped.wait(5):
    count += 1
    print(f"{os.environ.get('DYNO', 'worker')} did job {count}", flush=True)
print("stopping in peace", flush=True)
