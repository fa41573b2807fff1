import { FINISHED } from "../../api/jobs";
import { formatMoment } from "../../format";
import { linkTo } from "../../router";
import { useSession } from "../../session";
import { Card, ErrorText, Header, LinkButton, Loading } from "../../ui/basics";
import { Code } from "../../ui/Code";
import { Status } from "../../ui/Status";
import { Checkpoints } from "./Checkpoints";
import { Curves } from "./Curves";
import { Events } from "./Events";
import { Gates } from "./Gates";
import { JobActions } from "./JobActions";
import { JobFacts } from "./JobFacts";
import { PlanAndMeasured } from "./PlanAndMeasured";
import { JobProgress } from "./JobProgress";
import { curveOf, useEvents, useJob } from "./useJob";
import { WorstRows } from "./WorstRows";

/** All of one job. */
export function JobPage({ id }: { id: string }) {
  const { data, error, reload } = useJob(id);
  const events = useEvents(id);
  const { canChange } = useSession();
  if (data === undefined) {
    return (
      <>
        <Header title="Job" note={<span className="mono">{id}</span>} />
        {error ? <ErrorText error={error} /> : <Loading />}
      </>
    );
  }
  const { job, detail } = data;
  const hasEnded = FINISHED.has(job.status);
  return (
    <>
      <Header
        title={
          <>
            {job.model} <Status status={job.status} />
          </>
        }
        note={
          <>
            <span className="mono">{id}</span> · {formatMoment(job.created_at)}
          </>
        }
      >
        {canChange && <JobActions job={job} onChange={reload} />}
      </Header>
      <ErrorText error={error} />
      <Reason
        message={job.error?.message ?? (hasEnded ? undefined : (detail.message ?? detail.reason))}
        isError={job.error !== null}
      />
      {job.fine_tuned_model && (
        <Card className="result">
          <div>
            <p className="muted small">Fine-tuned model</p>
            <p className="mono">{job.fine_tuned_model}</p>
          </div>
          <LinkButton look="primary" href={linkTo(["playground"], { model: job.fine_tuned_model })}>
            Try it
          </LinkButton>
        </Card>
      )}
      {!hasEnded && <JobProgress job={job} detail={detail} />}
      <Curves
        points={curveOf(detail, events)}
        totalSteps={detail.progress?.totalSteps ?? lastTotal(events)}
        isLive={!hasEnded}
      />
      <div className="columns">
        <JobFacts job={job} />
        <PlanAndMeasured plan={detail.plan} measured={detail.measured} />
      </div>
      <Gates gates={detail.gates} />
      <Checkpoints id={id} status={job.status} />
      <WorstRows rows={detail.worstRows} />
      <Events events={events} isLive={!hasEnded} />
      {detail.yaml && (
        <Card title="YAML" note="The FineTuneJob behind this job.">
          <Code text={detail.yaml} label="FineTuneJob as YAML" />
        </Card>
      )}
    </>
  );
}

function Reason({ message, isError }: { message: string | null | undefined; isError: boolean }) {
  return message ? (
    <p className={isError ? "reason bad" : "reason"} role={isError ? "alert" : "status"}>
      {message}
    </p>
  ) : null;
}

const lastTotal = (events: { data: { total_steps?: number } | null }[]): number | undefined =>
  events.findLast(({ data }) => data?.total_steps !== undefined)?.data?.total_steps;
