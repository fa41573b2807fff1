"""What all tests share."""

import os

pytest_plugins = ["support.cluster_fixtures"]

# Workers and the processes that tests start share the machine's cores: OpenMP's busy-waiting between them costs far
# more than a second thread gains on models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
