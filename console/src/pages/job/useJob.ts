import { useEffect, useState } from "react";
import { getJobDetail, type CurvePoint, type JobDetail } from "../../api/console";
import { FINISHED, getJob, streamEvents } from "../../api/jobs";
import type { Job, JobEvent } from "../../api/types";
import { useQuery, type Query } from "../../hooks/useQuery";

const POLL_MILLISECONDS = 1500;
const RETRY_MILLISECONDS = 3000;

export interface WholeJob {
  job: Job;
  detail: JobDetail;
}

/** Load a job, and again until it has ended. */
export function useJob(id: string): Query<WholeJob> {
  const [hasEnded, setEnded] = useState(false);
  return useQuery<WholeJob>(
    async (signal) => {
      const [job, detail] = await Promise.all([getJob(id, signal), getJobDetail(id, signal)]);
      setEnded(FINISHED.has(job.status));
      return { job, detail: detail ?? {} };
    },
    [id],
    { every: hasEnded ? undefined : POLL_MILLISECONDS },
  );
}

/** Follow a job's events, from the first on. A stream that breaks off is begun again. */
export function useEvents(id: string): JobEvent[] {
  const [events, setEvents] = useState<JobEvent[]>([]);
  useEffect(() => {
    const stop = new AbortController();
    const follow = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        try {
          const seen: JobEvent[] = [];
          for await (const event of streamEvents(id, stop.signal)) {
            seen.push(event);
            if (!stop.signal.aborted) setEvents((before) => (before.length >= seen.length ? before : [...seen]));
          }
          return;
        } catch {
          if (stop.signal.aborted) return;
          await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
        }
      }
    };
    void follow();
    return () => stop.abort();
  }, [id]);
  return events;
}

/** Return the curve of a job: as the console's route has it, and else from the events with numbers. */
export function curveOf(detail: JobDetail, events: JobEvent[]): CurvePoint[] {
  if (detail.curve && detail.curve.length > 0) return detail.curve;
  return events.flatMap(({ type, data }) =>
    type === "metrics" && data?.step !== undefined
      ? [{ step: data.step, loss: data.train_loss, evalLoss: data.valid_loss }]
      : [],
  );
}
