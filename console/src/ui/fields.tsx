import { useId, type ComponentProps, type ReactNode } from "react";

interface Labelled {
  label: string;
  hint?: ReactNode;
  error?: string | undefined;
}

interface Ids {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": true | undefined;
}

/** A control with its label, what helps to fill it in, and what is wrong with it. */
export function Field({ label, hint, error, children }: Labelled & { children: (ids: Ids) => ReactNode }) {
  const id = useId();
  const describes = [hint !== undefined && `${id}-hint`, error !== undefined && `${id}-error`].filter(Boolean);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        "aria-describedby": describes.length ? describes.join(" ") : undefined,
        "aria-invalid": error === undefined ? undefined : true,
      })}
      {hint !== undefined && (
        <p className="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error !== undefined && (
        <p className="field-error" id={`${id}-error`} role="alert">
          {error}
        </p>
      )}
    </div>
  );
}

export function TextField({
  label,
  hint,
  error,
  ...rest
}: Labelled & ComponentProps<"input"> & { "data-first"?: boolean }) {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => <input type="text" {...rest} {...ids} />}
    </Field>
  );
}

export function AreaField({ label, hint, error, ...rest }: Labelled & ComponentProps<"textarea">) {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => <textarea {...rest} {...ids} />}
    </Field>
  );
}

/** What can be chosen: a value, or a value and what is shown for it. */
export type Option = string | readonly [value: string, text: string];

type SelectProps = Omit<ComponentProps<"select">, "children" | "onChange"> & {
  options: readonly Option[];
  onChange: (value: string) => void;
};

/** A choice of one of several, as a list that opens. */
export function Select({ options, onChange, ...rest }: SelectProps) {
  return (
    <select {...rest} onChange={(event) => onChange(event.target.value)}>
      {options.map((option) => {
        const [value, text] = typeof option === "string" ? [option, option] : option;
        return (
          <option key={value} value={value}>
            {text}
          </option>
        );
      })}
    </select>
  );
}

export function SelectField({ label, hint, error, ...rest }: Labelled & SelectProps) {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => <Select {...rest} {...ids} />}
    </Field>
  );
}

/** A choice of one of few, as radio buttons beside each other. */
export function Choice<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  const name = useId();
  return (
    <fieldset className="choice">
      <legend>{label}</legend>
      <div>
        {options.map(([option, text]) => (
          <label key={option} className={option === value ? "chosen" : ""}>
            <input type="radio" name={name} checked={option === value} onChange={() => onChange(option)} />
            {text}
          </label>
        ))}
      </div>
    </fieldset>
  );
}
