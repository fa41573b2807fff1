import { useCallback, useState } from "react";
import { deleteFile, listFiles, PURPOSES, saveFile } from "../../api/files";
import type { FileObject } from "../../api/types";
import { formatAgo, formatBytes, formatMoment } from "../../format";
import { useAction } from "../../hooks/useAction";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { Button, Empty, ErrorText, Header, Loading } from "../../ui/basics";
import { Confirm } from "../../ui/Dialog";
import { SelectField } from "../../ui/fields";
import { useNotices } from "../../ui/notices";
import { Table, type Column } from "../../ui/Table";
import { UploadArea } from "../../ui/UploadArea";

const SHOWN_PURPOSES = [...PURPOSES, "fine-tune-results"];

export function FilesPage() {
  const [purpose, setPurpose] = useState("");
  const [uploads, setUploads] = useState<string>("fine-tune");
  const [leaving, setLeaving] = useState<FileObject>();
  const { data, error, isLoading, reload } = useQuery((signal) => listFiles(signal, purpose || undefined), [purpose]);
  const { notify } = useNotices();
  const save = useAction(saveFile);
  const remove = useAction(
    useCallback(
      async (file: FileObject) => {
        await deleteFile(file.id);
        setLeaving(undefined);
        notify(`${file.filename} is deleted.`);
        reload();
      },
      [notify, reload],
    ),
  );
  const columns: Column<FileObject>[] = [
    { name: "File", cell: (file) => <FileName file={file} /> },
    { name: "Purpose", cell: (file) => <span className="whole">{file.purpose}</span> },
    { name: "Size", cell: (file) => formatBytes(file.bytes), isNumber: true },
    { name: "Created", cell: (file) => formatAgo(file.created_at), isNumber: true },
    {
      name: "Expires",
      cell: (file) => (file.expires_at === null ? "never" : formatMoment(file.expires_at)),
      isNumber: true,
    },
    {
      name: "Actions",
      isAction: true,
      cell: (file) => (
        <>
          <Button look="quiet" aria-label={`Download ${file.filename}`} onClick={() => void save.run(file)}>
            Download
          </Button>
          <Button look="quiet" aria-label={`Delete ${file.filename}`} onClick={() => setLeaving(file)}>
            Delete
          </Button>
        </>
      ),
    },
  ];
  return (
    <>
      <Header title="Files" note="What models are trained on and compared with, and what jobs leave." />
      <div className="upload-row">
        <SelectField label="Purpose of an upload" value={uploads} options={PURPOSES} onChange={setUploads} />
        <UploadArea
          purpose={uploads}
          label="Choose a file to upload"
          onUploaded={(file) => {
            notify(`${file.filename} is uploaded.`);
            reload();
          }}
        />
      </div>
      <div className="filters">
        <SelectField
          label="Purpose"
          value={purpose}
          options={[["", "All"], ...SHOWN_PURPOSES]}
          onChange={setPurpose}
        />
        <p className="muted small count" role="status">
          {data && `${data.length} ${data.length === 1 ? "file" : "files"}`}
        </p>
      </div>
      <ErrorText error={error} />
      {isLoading && <Loading />}
      {data?.length === 0 && <Empty title="No files">Upload a file of examples, one JSON object in a line.</Empty>}
      {data && data.length > 0 && <Table label="Files" columns={columns} rows={data} keyOf={(file) => file.id} />}
      {leaving && (
        <Confirm
          title="Delete this file?"
          action="Delete the file"
          isBusy={remove.isRunning}
          onClose={() => setLeaving(undefined)}
          onConfirm={() => void remove.run(leaving)}
        >
          <p>
            <strong>{leaving.filename}</strong> cannot be brought back. Models that were trained on it stay.
          </p>
        </Confirm>
      )}
    </>
  );
}

function FileName({ file }: { file: FileObject }) {
  return (
    <a className="row-link" href={linkTo(["files", file.id])}>
      <span>{file.filename}</span>
      <span className="muted small mono">{file.id}</span>
    </a>
  );
}
