import type { JobStatus } from "../api/types";

export const STATUS_NAMES: Record<JobStatus, string> = {
  validating_files: "Validating",
  queued: "Queued",
  running: "Running",
  pausing: "Pausing",
  paused: "Paused",
  succeeded: "Succeeded",
  failed: "Failed",
  cancelled: "Cancelled",
};

const LOOKS: Record<JobStatus, string> = {
  validating_files: "waiting",
  queued: "waiting",
  running: "active",
  pausing: "held",
  paused: "held",
  succeeded: "good",
  failed: "bad",
  cancelled: "off",
};

export function Status({ status }: { status: JobStatus }) {
  return <Badge look={LOOKS[status] ?? "off"}>{STATUS_NAMES[status] ?? status}</Badge>;
}

export function Badge({ look, children }: { look: string; children: string }) {
  return (
    <span className={`badge ${look}`}>
      <span className="badge-dot" aria-hidden="true" />
      {children}
    </span>
  );
}
