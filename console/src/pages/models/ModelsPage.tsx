import { useCallback, useState } from "react";
import { deleteModel, kindOf, listModels, type ModelKind } from "../../api/models";
import type { Model } from "../../api/types";
import { formatAgo } from "../../format";
import { useAction } from "../../hooks/useAction";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { useSession } from "../../session";
import { Button, Empty, ErrorText, Header, Loading } from "../../ui/basics";
import { Confirm } from "../../ui/Dialog";
import { Choice } from "../../ui/fields";
import { useNotices } from "../../ui/notices";
import { Badge } from "../../ui/Status";
import { Table, type Column } from "../../ui/Table";

const KINDS: Record<ModelKind, string> = { base: "Base", tuned: "Fine-tuned", checkpoint: "Checkpoint" };
const SHOWN = [
  ["", "All"],
  ["base", "Base"],
  ["tuned", "Fine-tuned"],
] as const;

export function ModelsPage() {
  const { canChange } = useSession();
  const [kind, setKind] = useState<"" | ModelKind>("");
  const [leaving, setLeaving] = useState<string>();
  const { data, error, isLoading, reload } = useQuery(listModels, []);
  const { notify } = useNotices();
  const remove = useAction(
    useCallback(
      async (id: string) => {
        await deleteModel(id);
        setLeaving(undefined);
        notify(`${id} is deleted.`);
        reload();
      },
      [notify, reload],
    ),
  );
  const columns: Column<Model>[] = [
    {
      name: "Model",
      cell: ({ id }) => (
        <a className="row-link mono" href={linkTo(["models", id])}>
          {id}
        </a>
      ),
    },
    {
      name: "Kind",
      cell: ({ id }) => <Badge look={kindOf(id) === "base" ? "off" : "active"}>{KINDS[kindOf(id)]}</Badge>,
    },
    { name: "Created", cell: ({ created }) => (created > 0 ? formatAgo(created) : "–"), isNumber: true },
    {
      name: "Actions",
      isAction: true,
      cell: ({ id }) => (
        <>
          <a className="button quiet" aria-label={`Try ${id}`} href={linkTo(["playground"], { model: id })}>
            Try
          </a>
          {!canChange ? null : kindOf(id) === "base" ? (
            <a className="button quiet" aria-label={`Fine-tune ${id}`} href={linkTo(["new"], { model: id })}>
              Fine-tune
            </a>
          ) : (
            <Button look="quiet" aria-label={`Delete ${id}`} onClick={() => setLeaving(id)}>
              Delete
            </Button>
          )}
        </>
      ),
    },
  ];
  const shown = (data ?? []).filter(({ id }) => kind === "" || kindOf(id) === kind);
  return (
    <>
      <Header title="Models" note="What can be asked and fine-tuned." />
      <div className="filters">
        <Choice label="Kind" value={kind} options={SHOWN} onChange={setKind} />
      </div>
      <ErrorText error={error} />
      {isLoading && <Loading />}
      {data && shown.length === 0 && <Empty title="No models of this kind" />}
      {shown.length > 0 && <Table label="Models" columns={columns} rows={shown} keyOf={({ id }) => id} />}
      {leaving !== undefined && (
        <Confirm
          title="Delete this model?"
          action="Delete the model"
          isBusy={remove.isRunning}
          onClose={() => setLeaving(undefined)}
          onConfirm={() => void remove.run(leaving)}
        >
          <p>
            Whoever asks <strong className="mono">{leaving}</strong> gets an error from then on. It cannot be brought
            back.
          </p>
        </Confirm>
      )}
    </>
  );
}
