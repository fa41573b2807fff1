import { Card } from "../../ui/basics";
import { Choice, TextField } from "../../ui/fields";
import { SETTINGS, type Form } from "./form";

const METHODS = [
  ["supervised", "Supervised"],
  ["dpo", "Preferences (DPO)"],
] as const;

/** How the model learns. What is left empty, the service chooses. */
export function MethodFields({ form, onChange }: { form: Form; onChange: (changes: Partial<Form>) => void }) {
  return (
    <Card title="Method">
      <Choice label="Learn from" value={form.method} options={METHODS} onChange={(method) => onChange({ method })} />
      <div className="fields">
        {SETTINGS.filter((setting) => !("only" in setting) || setting.only === form.method).map(
          ({ name, label, hint, step, min }) => (
            <TextField
              key={name}
              label={label}
              hint={hint}
              type="number"
              inputMode="decimal"
              step={step}
              min={min}
              placeholder="auto"
              value={form.settings[name]}
              onChange={(event) => onChange({ settings: { ...form.settings, [name]: event.target.value } })}
            />
          ),
        )}
        <TextField
          label="Suffix"
          hint="Is part of the model's name."
          maxLength={64}
          pattern="[A-Za-z0-9._ \-]+"
          placeholder="none"
          value={form.suffix}
          onChange={(event) => onChange({ suffix: event.target.value })}
        />
        <TextField
          label="Seed"
          hint="The same seed gives the same job."
          type="number"
          min="0"
          step="1"
          placeholder="random"
          value={form.seed}
          onChange={(event) => onChange({ seed: event.target.value })}
        />
      </div>
    </Card>
  );
}
