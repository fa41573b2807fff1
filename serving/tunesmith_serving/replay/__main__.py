"""`python -m tunesmith_serving.replay --artifact DIR --precision int4 < requests.jsonl > answers.jsonl`."""

import sys

from tunesmith_serving.replay.command import main

if __name__ == "__main__":
    sys.exit(main())
