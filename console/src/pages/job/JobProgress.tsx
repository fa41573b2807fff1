import type { JobDetail } from "../../api/console";
import type { Job } from "../../api/types";
import { formatAbout, formatNumber, wordsOf } from "../../format";
import { Card, Progress } from "../../ui/basics";

/** How far a job is, and when it will be done. */
export function JobProgress({ job, detail }: { job: Job; detail: JobDetail }) {
  const { step, totalSteps, etaSeconds, tokensPerSecond } = detail.progress ?? {};
  const left = etaSeconds ?? (job.estimated_finish === null ? null : job.estimated_finish - Date.now() / 1000);
  const isKnown = step != null && totalSteps != null && totalSteps > 0;
  return (
    <Card className="job-progress">
      <div className="progress-line">
        <strong>{detail.stage ? wordsOf(detail.stage) : "Progress"}</strong>
        <span className="muted">
          {isKnown && `Step ${formatNumber(step)} of ${formatNumber(totalSteps)}`}
          {isKnown && tokensPerSecond != null && ` · ${formatNumber(Math.round(tokensPerSecond))} tokens/s`}
          {left != null && left > 0 && ` · about ${formatAbout(left)} left`}
          {!isKnown && left == null && "It has not begun to train"}
        </span>
      </div>
      <Progress label="Training" part={isKnown ? step / totalSteps : job.status === "running" ? undefined : 0} />
    </Card>
  );
}
