import { useEffect, useId, useRef, useState, type DragEvent } from "react";
import { uploadFile } from "../api/files";
import type { FileObject } from "../api/types";
import { formatBytes } from "../format";
import { Button, Progress } from "./basics";
import { UploadIcon } from "./icons";

/** A place to drop or choose a file, which is then uploaded. */
export function UploadArea({
  purpose,
  label,
  accept,
  onUploaded,
}: {
  purpose: string;
  label: string;
  accept?: string;
  onUploaded: (file: FileObject) => void;
}) {
  const id = useId();
  const [sent, setSent] = useState<{ file: File; part: number }>();
  const [error, setError] = useState<string>();
  const [isOver, setOver] = useState(false);
  const stop = useRef<AbortController>(null);
  useEffect(() => () => stop.current?.abort(), []);

  const upload = async (file: File | undefined): Promise<void> => {
    if (file === undefined) return;
    setError(undefined);
    setSent({ file, part: 0 });
    stop.current = new AbortController();
    try {
      onUploaded(await uploadFile(file, purpose, (part) => setSent({ file, part }), stop.current.signal));
    } catch (failure) {
      if ((failure as Error).name !== "AbortError") setError((failure as Error).message);
    } finally {
      setSent(undefined);
    }
  };
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    void upload(event.dataTransfer.files[0]);
  };

  return (
    <div>
      <div
        className={`upload ${isOver ? "over" : ""}`}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        {sent === undefined ? (
          <>
            <UploadIcon />
            <input
              id={id}
              type="file"
              accept={accept}
              onChange={(event) => {
                void upload(event.target.files?.[0]);
                event.target.value = "";
              }}
            />
            <label htmlFor={id}>{label}</label>
            <span className="muted small">or drop it here</span>
          </>
        ) : (
          <div className="sending">
            <span>
              {sent.file.name} · {formatBytes(sent.file.size)}
            </span>
            <Progress label={`Upload of ${sent.file.name}`} part={sent.part} />
            <Button look="quiet" onClick={() => stop.current?.abort()}>
              Stop
            </Button>
          </div>
        )}
      </div>
      {error !== undefined && (
        <p className="error-text" role="alert">
          {error}
        </p>
      )}
    </div>
  );
}
