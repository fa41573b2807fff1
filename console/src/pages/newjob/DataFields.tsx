import { listFiles } from "../../api/files";
import type { FileObject } from "../../api/types";
import { formatAgo, formatBytes } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { Card, ErrorText, LOADING } from "../../ui/basics";
import { SelectField, type Option } from "../../ui/fields";
import { UploadArea } from "../../ui/UploadArea";
import { FileReport } from "../files/FileReport";
import type { Form } from "./form";

const nameOf = (file: FileObject): string =>
  `${file.filename} · ${formatBytes(file.bytes)} · ${formatAgo(file.created_at)}`;

/** What is learned from: a file that is there, or one that is uploaded now, and what is found in it. */
export function DataFields({ form, onChange }: { form: Form; onChange: (changes: Partial<Form>) => void }) {
  const { data, error, isLoading, reload } = useQuery((signal) => listFiles(signal, "fine-tune"), []);
  const files = data ?? [];
  const options = (none: string, chosen: string): Option[] => [
    ["", isLoading ? LOADING : none],
    ...(chosen === "" || files.some(({ id }) => id === chosen) ? [] : [chosen]),
    ...files.map((file): Option => [file.id, nameOf(file)]),
  ];
  return (
    <>
      <Card title="Data">
        <ErrorText error={error} />
        <SelectField
          label="Training file"
          required
          value={form.training}
          options={options("Choose a file", form.training)}
          onChange={(training) => onChange({ training })}
        />
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
          options={options("None", form.validation)}
          onChange={(validation) => onChange({ validation })}
        />
      </Card>
      {form.training !== "" && <FileReport key={form.training} id={form.training} model={form.model || undefined} />}
    </>
  );
}
