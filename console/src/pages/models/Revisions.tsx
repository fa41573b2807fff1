import { useCallback } from "react";
import { rollBack, type ModelDetail, type Revision } from "../../api/console";
import { formatMoment } from "../../format";
import { useAction } from "../../hooks/useAction";
import { Button, Card } from "../../ui/basics";
import { useNotices } from "../../ui/notices";
import { Badge } from "../../ui/Status";
import { Table } from "../../ui/Table";

/** What a model has served, and the way back to it. */
export function Revisions({ name, detail, onChange }: { name: string; detail: ModelDetail; onChange: () => void }) {
  const { notify } = useNotices();
  const back = useAction(
    useCallback(
      async (revision: string) => {
        await rollBack(name, revision);
        notify(`${name} goes back to ${revision}.`);
        onChange();
      },
      [name, notify, onChange],
    ),
  );
  const revisions = detail.revisions ?? [];
  if (revisions.length === 0) return null;
  const { phase, revision } = detail.rollout ?? {};
  return (
    <Card title="Revisions" note={[phase, revision].filter(Boolean).join(" · ")}>
      <Table<Revision>
        label="Revisions"
        rows={revisions}
        keyOf={(row, index) => `${row.revision}${index}`}
        columns={[
          { name: "Revision", cell: (row) => <span className="mono">{row.revision}</span> },
          {
            name: "First served",
            cell: (row) => (row.time ? formatMoment(Date.parse(row.time) / 1000) : "–"),
            isNumber: true,
          },
          {
            name: "State",
            cell: (row) => (row.isCurrent ? <Badge look="good">Current</Badge> : <Badge look="off">Earlier</Badge>),
          },
          {
            name: "Actions",
            isAction: true,
            cell: (row) =>
              !row.isCurrent && detail.own !== false ? (
                <Button
                  look="quiet"
                  isBusy={back.isRunning}
                  aria-label={`Roll back to ${row.revision}`}
                  onClick={() => void back.run(row.revision)}
                >
                  Roll back
                </Button>
              ) : null,
          },
        ]}
      />
    </Card>
  );
}
