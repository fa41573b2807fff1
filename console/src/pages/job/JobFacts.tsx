import type { ReactNode } from "react";
import { hyperparametersOf } from "../../api/jobs";
import type { Job } from "../../api/types";
import { formatDuration, formatMoment, formatNumber, wordsOf } from "../../format";
import { linkTo } from "../../router";
import { Card, Facts } from "../../ui/basics";

const METHODS = { supervised: "Supervised", dpo: "Preferences (DPO)" } as const;

/** What was asked for, and what came of it. */
export function JobFacts({ job }: { job: Job }) {
  const items: [string, ReactNode][] = [
    ["Base model", job.model],
    ["Method", METHODS[job.method?.type ?? "supervised"] ?? job.method?.type],
    ["Training file", <FileLink id={job.training_file} />],
  ];
  if (job.validation_file) items.push(["Validation file", <FileLink id={job.validation_file} />]);
  for (const [name, value] of Object.entries(hyperparametersOf(job))) {
    items.push([NAMES[name] ?? wordsOf(name), typeof value === "number" ? formatNumber(value) : value]);
  }
  items.push(["Seed", String(job.seed)]);
  if (job.trained_tokens !== null) items.push(["Trained tokens", formatNumber(job.trained_tokens)]);
  if (job.finished_at !== null) {
    items.push(["Finished", formatMoment(job.finished_at)], ["Took", formatDuration(job.finished_at - job.created_at)]);
  }
  if (job.result_files[0]) items.push(["Results", <FileLink id={job.result_files[0]} />]);
  return (
    <Card title="Settings">
      <Facts items={items} />
    </Card>
  );
}

const NAMES: Record<string, string> = { n_epochs: "Epochs", beta: "Beta" };

/** A file of the service; a job that ran without one has the place of its data. */
function FileLink({ id }: { id: string }) {
  if (!id.startsWith("file-")) return <span className="mono">{id}</span>;
  return (
    <a className="mono" href={linkTo(["files", id])}>
      {id}
    </a>
  );
}
