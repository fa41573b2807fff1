import { useState, type FormEvent } from "react";
import { createKey, SCOPES } from "../../api/keys";
import type { NewKey } from "../../api/types";
import { Button, ErrorText } from "../../ui/basics";
import { Dialog } from "../../ui/Dialog";
import { SelectField, TextField } from "../../ui/fields";

const DAY = 86_400;
const EXPIRIES = [
  ["", "Never"],
  [String(30 * DAY), "In 30 days"],
  [String(90 * DAY), "In 90 days"],
  [String(365 * DAY), "In a year"],
] as const;
const MEANINGS: Record<string, string> = {
  files: "upload and read files",
  fine_tuning: "start and follow jobs",
  models: "list and delete models",
  inference: "ask models",
  usage: "read what was used",
  admin: "manage projects and keys",
};

export function NewKeyDialog({
  project,
  onClose,
  onCreated,
}: {
  project: string;
  onClose: () => void;
  onCreated: (key: NewKey) => void;
}) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<string[]>(SCOPES.filter((scope) => scope !== "admin"));
  const [expiry, setExpiry] = useState("");
  const [error, setError] = useState<Error>();
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    try {
      onCreated(
        await createKey(project, {
          name: name.trim(),
          scopes,
          ...(expiry ? { expires_in_seconds: Number(expiry) } : {}),
        }),
      );
    } catch (failure) {
      setError(failure as Error);
      setBusy(false);
    }
  };
  const toggle = (scope: string): void =>
    setScopes(scopes.includes(scope) ? scopes.filter((each) => each !== scope) : [...scopes, scope]);
  return (
    <Dialog title="New key" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <div className="dialog-body">
          <TextField
            label="Name"
            data-first
            required
            maxLength={255}
            value={name}
            hint="Such as the program that will use it."
            onChange={(event) => setName(event.target.value)}
          />
          <fieldset className="checks">
            <legend>It may</legend>
            {SCOPES.map((scope) => (
              <label key={scope} className="check">
                <input type="checkbox" checked={scopes.includes(scope)} onChange={() => toggle(scope)} />
                {MEANINGS[scope]}
              </label>
            ))}
          </fieldset>
          <SelectField label="Expires" value={expiry} options={EXPIRIES} onChange={setExpiry} />
          <ErrorText error={error} />
        </div>
        <div className="dialog-actions">
          <Button onClick={onClose}>Close</Button>
          <Button type="submit" look="primary" isBusy={isBusy} disabled={!name.trim() || scopes.length === 0}>
            Create the key
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
