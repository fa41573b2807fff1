import type { NewKey } from "../../api/types";
import { Button } from "../../ui/basics";
import { Code } from "../../ui/Code";
import { Dialog } from "../../ui/Dialog";

/** A new key, the only time that it is shown. */
export function SecretDialog({ apiKey, onClose }: { apiKey: NewKey; onClose: () => void }) {
  return (
    <Dialog title={apiKey.name} onClose={onClose}>
      <div className="dialog-body">
        <p>
          Copy the key now. It is not stored, and is <strong>not shown again</strong>.
        </p>
        <Code text={apiKey.value} label="The new key" />
      </div>
      <div className="dialog-actions">
        <Button look="primary" onClick={onClose}>
          I have it
        </Button>
      </div>
    </Dialog>
  );
}
