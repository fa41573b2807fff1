import { listFiles } from "../../api/files";
import type { FileObject } from "../../api/types";
import { formatAgo, formatBytes } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { Card, ErrorText } from "../../ui/basics";
import { SelectField } from "../../ui/fields";
import { UploadArea } from "../../ui/UploadArea";
import { FileReport } from "../files/FileReport";
import type { Form } from "./form";

const nameOf = (file: FileObject): string =>
  `${file.filename} · ${formatBytes(file.bytes)} · ${formatAgo(file.created_at)}`;

/** What is learned from: a file that is there, or one that is uploaded now, and what is found in it. */
export function DataFields({ form, onChange }: { form: Form; onChange: (changes: Partial<Form>) => void }) {
  const { data, error, reload } = useQuery((signal) => listFiles(signal, "fine-tune"), []);
  const files = data ?? [];
  const options = (chosen: string) => (
    <>
      {chosen !== "" && !files.some(({ id }) => id === chosen) && <option value={chosen}>{chosen}</option>}
      {files.map((file) => (
        <option key={file.id} value={file.id}>
          {nameOf(file)}
        </option>
      ))}
    </>
  );
  return (
    <>
      <Card title="Data">
        <ErrorText error={error} />
        <SelectField
          label="Training file"
          required
          value={form.training}
          onChange={(event) => onChange({ training: event.target.value })}
        >
          <option value="">Choose a file</option>
          {options(form.training)}
        </SelectField>
        <UploadArea
          purpose="fine-tune"
          accept=".jsonl,application/jsonl"
          label="Upload a file of examples"
          onUploaded={(file) => {
            onChange({ training: file.id });
            reload();
          }}
        />
        <SelectField
          label="Validation file"
          hint="Rows that are not learned; they tell how good the model is on new ones."
          value={form.validation}
          onChange={(event) => onChange({ validation: event.target.value })}
        >
          <option value="">None</option>
          {options(form.validation)}
        </SelectField>
      </Card>
      {form.training !== "" && <FileReport key={form.training} id={form.training} model={form.model || undefined} />}
    </>
  );
}
