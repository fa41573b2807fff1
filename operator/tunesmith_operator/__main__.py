"""`python -m tunesmith_operator`: one replica of the operator."""

import sys

from tunesmith_api.local.imports import importing

with importing():
    from tunesmith_operator.app.command import main

if __name__ == "__main__":
    sys.exit(main())
