import { useCallback, useState } from "react";
import { changeJob, FINISHED, type JobAction } from "../../api/jobs";
import type { Job, JobStatus } from "../../api/types";
import { useAction } from "../../hooks/useAction";
import { linkTo } from "../../router";
import { Button, LinkButton } from "../../ui/basics";
import { Confirm } from "../../ui/Dialog";

const CAN_PAUSE: ReadonlySet<JobStatus> = new Set(["validating_files", "queued", "running"]);
const CAN_RESUME: ReadonlySet<JobStatus> = new Set(["paused", "pausing"]);

export function JobActions({ job, onChange }: { job: Job; onChange: () => void }) {
  const [asksToCancel, setAsks] = useState(false);
  const change = useAction(
    useCallback(
      async (action: JobAction) => {
        await changeJob(job.id, action);
        setAsks(false);
        onChange();
      },
      [job.id, onChange],
    ),
  );
  return (
    <>
      {CAN_PAUSE.has(job.status) && (
        <Button isBusy={change.isRunning} onClick={() => void change.run("pause")}>
          Pause
        </Button>
      )}
      {CAN_RESUME.has(job.status) && (
        <Button look="primary" isBusy={change.isRunning} onClick={() => void change.run("resume")}>
          Resume
        </Button>
      )}
      {!FINISHED.has(job.status) && <Button onClick={() => setAsks(true)}>Cancel</Button>}
      <LinkButton href={linkTo(["new"], { from: job.id })}>Again with changes</LinkButton>
      {asksToCancel && (
        <Confirm
          title="Cancel this job?"
          action="Cancel the job"
          isBusy={change.isRunning}
          onClose={() => setAsks(false)}
          onConfirm={() => void change.run("cancel")}
        >
          <p>What it has learned so far is lost. To go on later, pause it instead.</p>
        </Confirm>
      )}
    </>
  );
}
