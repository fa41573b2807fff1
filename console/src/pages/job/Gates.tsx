import type { Gate } from "../../api/console";
import { formatMeasure } from "../../format";
import { Card } from "../../ui/basics";
import { Badge } from "../../ui/Status";
import { Table } from "../../ui/Table";

const text = (value: number | string | null | undefined): string =>
  value == null ? "–" : typeof value === "number" ? formatMeasure(value) : value;

/** What the model had to reach, before and after training and as it is served. */
export function Gates({ gates }: { gates: Gate[] | null | undefined }) {
  if (!gates || gates.length === 0) return null;
  return (
    <Card title="Gates" note="What a model must reach to be published.">
      <Table
        label="Gates"
        rows={gates}
        keyOf={(gate, index) => `${gate.metric}${index}`}
        columns={[
          { name: "Metric", cell: (gate) => <strong>{gate.metric}</strong> },
          { name: "Bound", cell: (gate) => text(gate.bound), isNumber: true },
          { name: "Before", cell: (gate) => text(gate.before), isNumber: true },
          { name: "After", cell: (gate) => text(gate.after), isNumber: true },
          { name: "Served", cell: (gate) => text(gate.served), isNumber: true },
          { name: "Result", cell: (gate) => <Result passed={gate.passed} /> },
        ]}
      />
    </Card>
  );
}

function Result({ passed }: { passed: boolean | null | undefined }) {
  if (passed == null) return <Badge look="waiting">Not yet</Badge>;
  return passed ? <Badge look="good">Passed</Badge> : <Badge look="bad">Missed</Badge>;
}
