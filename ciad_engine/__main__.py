"""`python -m ciad_engine` is `ciad`."""

import sys

from ciad_engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
