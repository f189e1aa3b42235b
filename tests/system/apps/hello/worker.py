"""Counts aloud, five times a second, without a gap: so that a lost line would be seen."""

import itertools
import os
import time

for number in itertools.count(1):
    print(f"{os.environ['DYNO']} counts {number}", flush=True)
    time.sleep(0.2)
