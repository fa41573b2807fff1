import { useState } from "react";
import { FINISHED, listJobs } from "../../api/jobs";
import type { Job } from "../../api/types";
import { formatAbout, formatAgo, formatDuration } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { useSession } from "../../session";
import { Button, Empty, ErrorText, Header, LinkButton, Loading } from "../../ui/basics";
import { SelectField } from "../../ui/fields";
import { Status, STATUS_NAMES } from "../../ui/Status";
import { Table, type Column } from "../../ui/Table";

const POLL_MILLISECONDS = 3000;
const PAGE = 100;

const COLUMNS: Column<Job>[] = [
  { name: "Job", cell: (job) => <JobName job={job} /> },
  { name: "Base model", cell: (job) => job.model },
  { name: "Status", cell: (job) => <Status status={job.status} /> },
  { name: "Created", cell: (job) => formatAgo(job.created_at), isNumber: true },
  { name: "Took", cell: tookOf, isNumber: true },
];

export function JobsPage() {
  const { canChange } = useSession();
  const [status, setStatus] = useState("");
  const [model, setModel] = useState("");
  const [pages, setPages] = useState(1);
  const { data, error, isLoading } = useQuery((signal) => newestJobs(pages, signal), [pages], {
    every: POLL_MILLISECONDS,
    keeps: true,
  });
  const jobs = data?.jobs ?? [];
  const models = [...new Set(jobs.map((job) => job.model))].sort();
  const shown = jobs.filter((job) => (!status || job.status === status) && (!model || job.model === model));
  return (
    <>
      <Header title="Jobs" note="Each job fine-tunes a model on a file.">
        {canChange && (
          <LinkButton look="primary" href={linkTo(["new"])}>
            New job
          </LinkButton>
        )}
      </Header>
      <div className="filters">
        <SelectField
          label="Status"
          value={status}
          options={[["", "All"], ...Object.entries(STATUS_NAMES)]}
          onChange={setStatus}
        />
        <SelectField label="Base model" value={model} options={[["", "All"], ...models]} onChange={setModel} />
        <p className="muted small count" role="status">
          {data && countOf(shown.length, jobs.length)}
        </p>
      </div>
      <ErrorText error={error} />
      {isLoading && <Loading />}
      {data && jobs.length === 0 && (
        <Empty title="No jobs yet">
          Upload a file of examples and <a href={linkTo(["new"])}>start the first one</a>.
        </Empty>
      )}
      {jobs.length > 0 && shown.length === 0 && <Empty title="No job is like this">Choose other filters.</Empty>}
      {shown.length > 0 && <Table label="Jobs" columns={COLUMNS} rows={shown} keyOf={(job) => job.id} />}
      {data?.more && <Button onClick={() => setPages(pages + 1)}>Show older jobs</Button>}
    </>
  );
}

function JobName({ job }: { job: Job }) {
  const tuned = job.fine_tuned_model;
  return (
    <a className="row-link" href={linkTo(["jobs", job.id])}>
      <span className="mono">{tuned ?? job.id}</span>
      {tuned && <span className="muted small mono">{job.id}</span>}
    </a>
  );
}

function tookOf(job: Job): string {
  if (job.finished_at !== null) return formatDuration(job.finished_at - job.created_at);
  if (job.estimated_finish === null || FINISHED.has(job.status)) return "–";
  return `about ${formatAbout(job.estimated_finish - Date.now() / 1000)} left`;
}

const countOf = (shown: number, all: number): string =>
  shown === all ? `${all} ${all === 1 ? "job" : "jobs"}` : `${shown} of ${all} jobs`;

async function newestJobs(pages: number, signal: AbortSignal): Promise<{ jobs: Job[]; more: boolean }> {
  const jobs: Job[] = [];
  let more = true;
  for (let page = 0; page < pages && more; page++) {
    const found = await listJobs(PAGE, signal, jobs.at(-1)?.id);
    jobs.push(...found.data);
    more = found.has_more;
  }
  return { jobs, more };
}
