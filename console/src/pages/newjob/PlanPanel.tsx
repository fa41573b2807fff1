import { getPlan, type Plan } from "../../api/console";
import type { JobRequest } from "../../api/jobs";
import { formatBytes, formatDollars, formatDuration, formatNumber } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { Card, ErrorText, Facts, Loading } from "../../ui/basics";
import { Code } from "../../ui/Code";
import { Tabs } from "../../ui/Tabs";
import { Fits } from "./Fits";

/** What a job would take, and what is sent for it. */
export function PlanPanel({ request, isReady }: { request: JobRequest; isReady: boolean }) {
  const text = JSON.stringify(request, null, 2);
  const { data, error, isLoading } = useQuery(
    async (signal) => (isReady ? await getPlan(request, signal) : null),
    [text, isReady],
    { keeps: true },
  );
  const tabs = [
    ...(data?.yaml ? [["YAML", <Code label="FineTuneJob as YAML" text={data.yaml} />] as const] : []),
    ["Request", <Code label="Request as JSON" text={text} />] as const,
  ];
  return (
    <div className="beside">
      <Card title="What it takes">
        {!isReady && <p className="muted">It is computed once a model and a file are chosen.</p>}
        {isReady && isLoading && <Loading />}
        <ErrorText error={error} />
        {data && <Needs plan={data} />}
        {isReady && !error && !isLoading && data === null && <p className="muted">This service does not plan jobs.</p>}
      </Card>
      <Card title="What is made">
        <Tabs label="Form" tabs={tabs} />
      </Card>
    </div>
  );
}

function Needs({ plan }: { plan: Plan }) {
  const items: [string, string][] = [];
  if (plan.seconds != null) items.push(["Time", formatDuration(plan.seconds)]);
  if (plan.cost != null) items.push(["Cost", formatDollars(plan.cost)]);
  if (plan.memory != null) items.push(["Memory", formatBytes(plan.memory)]);
  if (plan.rows != null) items.push(["Rows", formatNumber(plan.rows)]);
  return (
    <>
      {plan.message && (
        <div className="reason bad" role="alert">
          <p>{plan.message}</p>
          {plan.remedies && plan.remedies.length > 0 && (
            <ul>
              {plan.remedies.map((remedy) => (
                <li key={remedy}>{remedy}</li>
              ))}
            </ul>
          )}
        </div>
      )}
      {items.length > 0 && <Facts items={items} look="numbers" />}
      <Fits fits={plan.fits ?? []} />
    </>
  );
}
