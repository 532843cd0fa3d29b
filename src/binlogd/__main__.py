"""``python -m binlogd``."""

import sys

from binlogd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
