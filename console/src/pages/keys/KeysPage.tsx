import { useCallback, useState } from "react";
import { ApiError, currentKey, setKey } from "../../api/client";
import { listKeys, listProjects, revokeKey } from "../../api/keys";
import type { ApiKey, NewKey } from "../../api/types";
import { formatAgo, formatMoment } from "../../format";
import { useAction } from "../../hooks/useAction";
import { useQuery } from "../../hooks/useQuery";
import { useSession } from "../../session";
import { Button, Empty, ErrorText, Header, Loading } from "../../ui/basics";
import { Confirm } from "../../ui/Dialog";
import { useNotices } from "../../ui/notices";
import { Badge } from "../../ui/Status";
import { Table, type Column } from "../../ui/Table";
import { NewKeyDialog } from "./NewKeyDialog";
import { RotateDialog } from "./RotateDialog";
import { SecretDialog } from "./SecretDialog";

type Open = { is: "new" } | { is: "rotate" | "revoke"; key: ApiKey } | { is: "secret"; key: NewKey };

export function KeysPage() {
  const { session } = useSession();
  const [open, setOpen] = useState<Open>();
  const { notify } = useNotices();
  const { data, error, isLoading, reload } = useQuery(
    async (signal) => {
      const project = session.project?.id ?? (await listProjects(signal))[0]?.id ?? "";
      return { project, keys: await listKeys(project, signal) };
    },
    [session.project?.id],
  );
  const close = (): void => setOpen(undefined);
  const created = (key: NewKey, replaced?: ApiKey): void => {
    if (replaced && isOwn(replaced)) setKey(key.value);
    setOpen({ is: "secret", key });
    reload();
  };
  const revoke = useAction(
    useCallback(
      async (project: string, key: ApiKey) => {
        await revokeKey(project, key.id);
        setOpen(undefined);
        notify(`${key.name} is revoked.`);
        reload();
      },
      [notify, reload],
    ),
  );
  const columns: Column<ApiKey>[] = [
    {
      name: "Name",
      cell: (key) => (
        <>
          {key.name} {isOwn(key) && <Badge look="active">This tab</Badge>}
        </>
      ),
    },
    { name: "Key", cell: (key) => <span className="mono">{key.redacted_value}</span> },
    { name: "Created", cell: (key) => formatAgo(key.created_at), isNumber: true },
    {
      name: "Last used",
      cell: (key) => (key.last_used_at === null ? "never" : formatAgo(key.last_used_at)),
      isNumber: true,
    },
    {
      name: "Expires",
      cell: (key) => (key.expires_at === null ? "never" : formatMoment(key.expires_at)),
      isNumber: true,
    },
    {
      name: "Actions",
      isAction: true,
      cell: (key) => (
        <>
          <Button look="quiet" aria-label={`Rotate ${key.name}`} onClick={() => setOpen({ is: "rotate", key })}>
            Rotate
          </Button>
          <Button look="quiet" aria-label={`Revoke ${key.name}`} onClick={() => setOpen({ is: "revoke", key })}>
            Revoke
          </Button>
        </>
      ),
    },
  ];
  return (
    <>
      <Header title="Keys" note="Programs sign in with them. Each is shown once, when it is made.">
        {data && (
          <Button look="primary" onClick={() => setOpen({ is: "new" })}>
            New key
          </Button>
        )}
      </Header>
      {error instanceof ApiError && error.status === 403 ? (
        <Empty title="This key may not manage keys">{error.message}</Empty>
      ) : (
        <ErrorText error={error} />
      )}
      {isLoading && <Loading />}
      {data && <Table label="Keys" columns={columns} rows={data.keys} keyOf={(key) => key.id} />}
      {data && open?.is === "new" && <NewKeyDialog project={data.project} onClose={close} onCreated={created} />}
      {data && open?.is === "rotate" && (
        <RotateDialog
          project={data.project}
          apiKey={open.key}
          onClose={close}
          onRotated={(key) => created(key, open.key)}
        />
      )}
      {open?.is === "secret" && <SecretDialog apiKey={open.key} onClose={close} />}
      {data && open?.is === "revoke" && (
        <Confirm
          title="Revoke this key?"
          action="Revoke the key"
          isBusy={revoke.isRunning}
          onClose={close}
          onConfirm={() => void revoke.run(data.project, open.key)}
        >
          <p>
            Programs that use <strong>{open.key.name}</strong> are refused within seconds.{" "}
            {isOwn(open.key) && "You are signed in with it, and will be signed out."}
          </p>
        </Confirm>
      )}
    </>
  );
}

/** Return whether this tab is signed in with a key: of a key only the beginning is known. */
function isOwn(key: ApiKey): boolean {
  return currentKey()?.startsWith(key.redacted_value.replace(/\*+$/, "")) ?? false;
}
