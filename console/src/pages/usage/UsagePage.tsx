import { useState } from "react";
import { getUsage, type Day, type ModelUse } from "../../api/usage";
import { formatCompact, formatDay, formatDollars, formatDuration, formatNumber } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { Card, Empty, ErrorText, Facts, Header, Loading } from "../../ui/basics";
import { BarChart, type Part } from "../../ui/charts/BarChart";
import { Choice } from "../../ui/fields";
import { Table } from "../../ui/Table";

const RANGES = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
] as const;

type What = "tokens" | "requests" | "trained" | "cost";

interface View {
  name: string;
  parts: Part[];
  values: (day: Day) => number[];
  format?: (value: number) => string;
}

const VIEWS: Record<What, View> = {
  tokens: {
    name: "Tokens",
    parts: [
      { name: "Input", look: "main" },
      { name: "Output", look: "second" },
    ],
    values: (day) => [day.input, day.output],
  },
  requests: { name: "Requests", parts: [{ name: "Requests", look: "main" }], values: (day) => [day.requests] },
  trained: {
    name: "Trained tokens",
    parts: [{ name: "Trained tokens", look: "main" }],
    values: (day) => [day.trained],
  },
  cost: { name: "Cost", parts: [{ name: "Cost", look: "main" }], values: (day) => [day.cost], format: formatDollars },
};

export function UsagePage() {
  const [range, setRange] = useState<"7" | "30" | "90">("30");
  const [what, setWhat] = useState<What>("tokens");
  const { data, error, isLoading } = useQuery((signal) => getUsage(Number(range), signal), [range]);
  const view = VIEWS[what];
  return (
    <>
      <Header title="Usage" note="By day, in UTC." />
      <div className="filters">
        <Choice label="Time" value={range} options={RANGES} onChange={setRange} />
      </div>
      <ErrorText error={error} />
      {isLoading && <Loading />}
      {data && (
        <>
          <Totals days={data.days} />
          <Card title={`${view.name} by day`}>
            <Choice
              label="Shown"
              value={what}
              options={Object.entries(VIEWS).map(([key, { name }]) => [key as What, name] as const)}
              onChange={setWhat}
            />
            <BarChart
              label={`${view.name} by day`}
              across="Day"
              parts={view.parts}
              bars={data.days.map((day) => ({ name: formatDay(day.start), values: view.values(day) }))}
              {...(view.format ? { format: view.format } : {})}
            />
          </Card>
          <Models models={data.models} />
        </>
      )}
    </>
  );
}

function Totals({ days }: { days: Day[] }) {
  const sum = (value: (day: Day) => number): number => days.reduce((total, day) => total + value(day), 0);
  const items: [string, string][] = [
    ["Requests", formatCompact(sum((day) => day.requests))],
    ["Input tokens", formatCompact(sum((day) => day.input))],
    ["Output tokens", formatCompact(sum((day) => day.output))],
    ["Trained tokens", formatCompact(sum((day) => day.trained))],
    ["GPU time", formatDuration(sum((day) => day.gpuSeconds))],
    ["Cost", formatDollars(sum((day) => day.cost))],
  ];
  return <Facts items={items} look="totals" />;
}

function Models({ models }: { models: ModelUse[] }) {
  if (models.length === 0) return <Empty title="Nothing was used in this time" />;
  return (
    <Card title="By model">
      <Table
        label="Usage by model"
        rows={models}
        keyOf={({ model }) => model}
        columns={[
          { name: "Model", cell: ({ model }) => <span className="mono">{model}</span> },
          { name: "Requests", cell: ({ requests }) => formatNumber(requests), isNumber: true },
          { name: "Input tokens", cell: ({ input }) => formatNumber(input), isNumber: true },
          { name: "Output tokens", cell: ({ output }) => formatNumber(output), isNumber: true },
          { name: "Trained tokens", cell: ({ trained }) => formatNumber(trained), isNumber: true },
        ]}
      />
    </Card>
  );
}
