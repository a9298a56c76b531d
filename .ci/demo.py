"""Hold the demo to its promise: every peer is better than alone, and as good as all rows in one place.

`python demo.py FILE`, where the last line of FILE is what `chinwag demo --json` ended with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

AS_GOOD = 0.02
"""How far below the pooled model a peer may be: two points, about seven of the demo's test rows."""

peers = json.loads(Path(sys.argv[1]).read_text().strip().splitlines()[-1])["peers"]
short = [p for p in peers if not (p["now"] > p["alone"] and p["now"] >= p["pooled"] - AS_GOOD)]
for p in peers:
    print(f"{p['name']}: alone {p['alone']:.3f}, now {p['now']:.3f}, all rows in one place {p['pooled']:.3f}")
if len(peers) < 3 or short:
    sys.exit(f"The demo does not keep its promise: {len(peers)} peers, of which {len(short)} fall short.")
