"""`python -m peer.cli` is the command `chinwag`."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
