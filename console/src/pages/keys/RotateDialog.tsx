import { useState } from "react";
import { rotateKey } from "../../api/keys";
import type { ApiKey, NewKey } from "../../api/types";
import { Button, ErrorText } from "../../ui/basics";
import { Dialog } from "../../ui/Dialog";
import { SelectField } from "../../ui/fields";

const OVERLAPS = [
  ["0", "At once"],
  ["3600", "After an hour"],
  ["86400", "After a day"],
  ["604800", "After a week"],
] as const;

export function RotateDialog({
  project,
  apiKey,
  onClose,
  onRotated,
}: {
  project: string;
  apiKey: ApiKey;
  onClose: () => void;
  onRotated: (key: NewKey) => void;
}) {
  const [overlap, setOverlap] = useState("3600");
  const [error, setError] = useState<Error>();
  const [isBusy, setBusy] = useState(false);
  const rotate = async (): Promise<void> => {
    setBusy(true);
    try {
      onRotated(await rotateKey(project, apiKey.id, Number(overlap)));
    } catch (failure) {
      setError(failure as Error);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Rotate ${apiKey.name}`} onClose={onClose}>
      <div className="dialog-body">
        <p>A new key with the same name and rights takes its place.</p>
        <SelectField label="The old key ends" value={overlap} options={OVERLAPS} onChange={setOverlap} />
        <ErrorText error={error} />
      </div>
      <div className="dialog-actions">
        <Button onClick={onClose}>Close</Button>
        <Button look="primary" isBusy={isBusy} onClick={() => void rotate()}>
          Rotate the key
        </Button>
      </div>
    </Dialog>
  );
}
