"""The hosted service under load, while what it depends on is killed at random moments.

Jobs: projects with quotas fine-tune at the same time. The service, its database, its HTTP and the API server with its
etcd are real, each in processes of its own; a stand-in writes the statuses that the operator would, for a hundred real
trainings do not fit on a machine. Replicas, PostgreSQL and the API server are killed. Afterwards none is lost, none was
made twice, by all that etcd has kept no project had more jobs at any moment than it may, and none waited for long with
a place free.

Files: many of mixed sizes and a large one in parts, of which two are interrupted. What is read again has the digests
of what was sent, and no process had more memory than 300 MB.

    python tests/bench/hosted_load.py jobs                  # 100 jobs, 20 kills each: 10 minutes on 2 cores
    python tests/bench/hosted_load.py jobs --quick          # without Kubernetes: a backend of the tests is away
    python tests/bench/hosted_load.py files                 # 1,000 files and one of 2 GB, 6 GB of disk
    python tests/bench/hosted_load.py jobs --quick --seed 7 --sqlite
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

from cluster.errors import CannotRunError
from support.api_server_site import running_api_server
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
    parser.add_argument("--quick", action="store_true", help="a backend of the tests instead of an API server")
    parser.add_argument("--projects", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=10, help="jobs of each project")
    parser.add_argument("--kills", type=int, default=20, help="kills of replicas, and of the database")
    parser.add_argument("--outages", type=int, default=20, help="kills of the API server, or of that backend")
    parser.add_argument("--gap", type=float, default=2.0, help="seconds between two of them")
    parser.add_argument("--seconds", type=float, nargs=2, default=(10.0, 60.0), help="the shortest and longest job")
    parser.add_argument("--starved", type=float, default=120, help="seconds for which a job may wait with a place free")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=2 << 30, help="size of the large file")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        return run(options)
    except CannotRunError as reason:
        print(f"{reason} Without Kubernetes: --quick")
        return 1


def run(options) -> int:  # noqa: ANN001
    """Start what is needed, and run it."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-load-") as name:
        folder = Path(name)
        seconds = tuple(options.seconds)
        is_quick = options.quick or options.what == "files"
        with (
            nullcontext() if options.sqlite else running() as server,
            nullcontext() if is_quick else running_api_server(folder, seconds) as site,
        ):
            url = f"sqlite:///{folder}/db.sqlite" if server is None else server.create_database()
            replicas = 1 if options.sqlite else options.replicas
            with running_fleet(folder, url, replicas, seconds, site) as fleet:
                return jobs(fleet, server, options) if options.what == "jobs" else files(fleet, options)


def jobs(fleet, server, options) -> int:  # noqa: ANN001
    """Run jobs while things are killed."""
    begun = time.monotonic()
    wanted, lasted = run_load(
        fleet, server, seed=options.seed, projects=options.projects, jobs=options.jobs, kills=options.kills,
        outages=options.outages, gap=options.gap,
    )  # fmt: skip
    took = time.monotonic() - begun
    check_load(fleet, wanted)
    killed = f"replicas{' and PostgreSQL' if server else ''} {options.kills} times, {fleet.site.name} {options.outages}"
    print(f"{options.projects * options.jobs} jobs of {options.projects} projects; killed: {killed}")
    print(f"all ended after {took:.0f} s; none lost, none twice, none over its quota")
    for item in wanted:
        print(
            f"  {item.quota} at once: {len(item.jobs)} jobs in {item.seconds:.0f} s, {len(item.cancelled)} cancelled, "
            f"at most {item.starved:.0f} s with a free place"
        )
    if not lasted:
        print("all jobs had ended before the last kill: give a longer --seconds")
    if starved := [item for item in wanted if item.starved > options.starved]:
        print(f"{len(starved)} projects starved")
    return 0 if lasted and not starved else 1


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
