"""A one-off: heroku run python job.py 3"""

import sys

for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    print(f"job {number + 1} done")
