import type { Facts } from "../../api/console";
import { formatFact, wordsOf } from "../../format";
import { Card, Facts as FactList } from "../../ui/basics";
import { Table } from "../../ui/Table";

type Maybe = Facts | null | undefined;

interface Need {
  name: string;
  plan: string;
  measured: string;
}

const STAGES = ["prepare", "train", "publish"];
const NEEDS: Record<string, string> = {
  seconds: "time",
  secondsPerStep: "time of a step",
  memory: "memory",
  gpuMemory: "GPU memory",
  disk: "disk",
};
const CHOICES = [
  "machine",
  "processes",
  "strategy",
  "microBatchSize",
  "gradientAccumulationSteps",
  "packing",
  "gradientCheckpointing",
  "hours",
  "cost",
];

/** What was expected before the job, beside what was measured. */
export function PlanAndMeasured({ plan, measured }: { plan: Maybe; measured: Maybe }) {
  const needs = needsOf(plan, measured);
  const chosen = CHOICES.filter((name) => plan?.[name] != null).map((name): [string, string] => [
    wordsOf(name),
    formatFact(name, plan?.[name]),
  ]);
  if (needs.length + chosen.length === 0) return null;
  return (
    <Card title="Plan and measured">
      {needs.length > 0 && (
        <Table
          label="Plan and measured"
          rows={needs}
          keyOf={(need) => need.name}
          columns={[
            { name: "Stage", cell: (need) => need.name },
            { name: "Plan", cell: (need) => need.plan, isNumber: true },
            { name: "Measured", cell: (need) => need.measured, isNumber: true },
          ]}
        />
      )}
      {chosen.length > 0 && <FactList items={chosen} />}
    </Card>
  );
}

function needsOf(plan: Maybe, measured: Maybe): Need[] {
  const planned = factsIn(plan, "stages");
  return STAGES.flatMap((stage) => {
    const [before, after] = [factsIn(planned, stage), factsIn(measured, stage)];
    return Object.entries(NEEDS)
      .filter(([name]) => before[name] != null || after[name] != null)
      .map(([name, words]) => ({
        name: `${wordsOf(stage)}, ${words}`,
        plan: formatNeed(name, before[name]),
        measured: formatNeed(name, after[name]),
      }));
  });
}

function factsIn(facts: Maybe, name: string): Facts {
  const found = facts?.[name];
  return typeof found === "object" && found !== null ? (found as Facts) : {};
}

function formatNeed(name: string, value: unknown): string {
  return name === "secondsPerStep" && typeof value === "number"
    ? `${formatFact("", value)} s`
    : formatFact(name, value);
}
