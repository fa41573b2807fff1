"""The hosted service under load, while what it depends on is killed at random moments.

Jobs: projects with quotas fine-tune at the same time. The service, its database and its HTTP are real, in several
processes; jobs take seconds and train nothing. Afterwards none is lost, none was made twice, and by the log of the
backend no project had more jobs at any moment than it may.

Files: many of mixed sizes and a large one in parts, of which two are interrupted. What is read again has the digests
of what was sent, and no process had more memory than 300 MB.

    python tests/bench/hosted_load.py jobs                  # 100 jobs, 20 kills each: about 5 minutes on 2 cores
    python tests/bench/hosted_load.py files                 # 1,000 files and one of 2 GB, 6 GB of disk
    python tests/bench/hosted_load.py jobs --seed 7 --sqlite
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.hosted_files_load import MOST_BYTES, upload_in_parts, upload_many
from support.hosted_fleet import running_fleet
from support.hosted_load import check_load, run_load
from support.postgres import running

_FREE = 10 << 30


def main() -> int:
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("jobs", "files"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--sqlite", action="store_true", help="one replica over SQLite instead of PostgreSQL")
    parser.add_argument("--projects", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=10, help="jobs of each project")
    parser.add_argument("--kills", type=int, default=20, help="kills of replicas, and of the database")
    parser.add_argument("--outages", type=int, default=20, help="times that the backend is away")
    parser.add_argument("--gap", type=float, default=1.0, help="seconds between two of them")
    parser.add_argument("--seconds", type=float, nargs=2, default=(5.0, 25.0), help="the shortest and longest job")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=2 << 30, help="size of the large file")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tunesmith-load-") as name:
        folder = Path(name)
        with nullcontext() if options.sqlite else running() as server:
            url = f"sqlite:///{folder}/db.sqlite" if server is None else server.create_database()
            replicas = 1 if options.sqlite else options.replicas
            with running_fleet(folder, url, replicas, tuple(options.seconds)) as fleet:
                return jobs(fleet, server, options) if options.what == "jobs" else files(fleet, options)


def jobs(fleet, server, options) -> int:  # noqa: ANN001
    """Run jobs while things are killed."""
    begun = time.monotonic()
    wanted, done, lasted = run_load(
        fleet, server, seed=options.seed, projects=options.projects, jobs=options.jobs, kills=options.kills,
        outages=options.outages, gap=options.gap,
    )  # fmt: skip
    check_load(fleet, wanted)
    counts = {what: done.count(what) for what in sorted(set(done))}
    print(f"{options.projects * options.jobs} jobs of {options.projects} projects, killed or away: {counts}")
    print(f"all ended after {time.monotonic() - begun:.0f} s; none lost, none twice, none over its quota")
    for item in wanted:
        print(f"  {item.quota} at once: {len(item.jobs)} jobs in {item.seconds:.0f} s, {len(item.cancelled)} cancelled")
    if not lasted:
        print("all jobs had ended before the last kill: give a longer --seconds")
    return 0 if lasted else 1


def files(fleet, options) -> int:  # noqa: ANN001
    """Upload files."""
    if shutil.disk_usage(fleet.folder).free < _FREE + 3 * options.bytes:
        print("too little disk: 10 GiB stay free, and the large file is there three times for a moment")
        return 1
    key = fleet.add_project("files", jobs_at_once=1)
    begun = time.monotonic()
    size = upload_many(fleet, key, options.files, options.seed)
    print(
        f"{options.files} files, {size >> 20} MiB, in {time.monotonic() - begun:.0f} s; digests are equal", flush=True
    )
    begun = time.monotonic()
    peak = upload_in_parts(fleet, key, options.bytes, options.seed)
    print(
        f"{options.bytes >> 20} MiB in parts, two interrupted, in {time.monotonic() - begun:.0f} s; digests are equal"
    )
    print(f"the most memory of a process: {peak >> 20} MiB of {MOST_BYTES >> 20}")
    return 0 if peak < MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
