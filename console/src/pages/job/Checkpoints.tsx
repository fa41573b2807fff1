import { listCheckpoints } from "../../api/jobs";
import { formatMeasure, formatMoment, formatNumber } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { Card } from "../../ui/basics";
import { Table } from "../../ui/Table";

/** The checkpoints that are kept; each can be asked. */
export function Checkpoints({ id, status }: { id: string; status: string }) {
  const { data } = useQuery((signal) => listCheckpoints(id, signal), [id, status], { keeps: true });
  if (!data || data.length === 0) return null;
  return (
    <Card title="Checkpoints">
      <Table
        label="Checkpoints"
        rows={data}
        keyOf={(checkpoint) => checkpoint.id}
        columns={[
          { name: "Step", cell: (checkpoint) => formatNumber(checkpoint.step_number), isNumber: true },
          {
            name: "Model",
            cell: (checkpoint) => <span className="mono">{checkpoint.fine_tuned_model_checkpoint}</span>,
          },
          {
            name: "Validation loss",
            cell: ({ metrics }) => textOf(metrics["full_valid_loss"] ?? metrics["valid_loss"]),
            isNumber: true,
          },
          { name: "Created", cell: (checkpoint) => formatMoment(checkpoint.created_at), isNumber: true },
          {
            name: "Try it",
            cell: ({ fine_tuned_model_checkpoint: model }) => (
              <a href={linkTo(["playground"], { model })}>
                Try it<span className="hidden"> {model}</span>
              </a>
            ),
            isAction: true,
          },
        ]}
      />
    </Card>
  );
}

const textOf = (value: number | null | undefined): string => (value == null ? "–" : formatMeasure(value));
