"""`python -m tunesmith_hosted`."""

import sys

from tunesmith_hosted.process.command import main

if __name__ == "__main__":
    sys.exit(main())
