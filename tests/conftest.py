"""What all tests share."""

import os
import signal

pytest_plugins = ["support.cluster_fixtures"]

# Workers and the processes that tests start share the machine's cores: OpenMP's busy-waiting between them costs far
# more than a second thread gains on models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell starts its background jobs with SIGINT ignored, and so would be all that tests start and press Ctrl-C on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
