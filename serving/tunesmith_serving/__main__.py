"""`python -m tunesmith_serving --artifact DIR`: serve one model over HTTP."""

import sys

from tunesmith_serving.process.command import main
from tunesmith_serving.process.memory import ask_for_huge_pages

if __name__ == "__main__":
    ask_for_huge_pages()
    sys.exit(main())
