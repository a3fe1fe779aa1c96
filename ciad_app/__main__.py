"""`python -m ciad_app` is `ciad-gui`."""

import sys

from ciad_app.main import main

if __name__ == "__main__":
    sys.exit(main())
