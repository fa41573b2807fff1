import type { JobRequest } from "../../api/jobs";
import { hyperparametersOf, suffixOf } from "../../api/jobs";
import type { Hyperparameters, Job, MethodType, Setting } from "../../api/types";

export const SETTINGS = [
  { name: "n_epochs", label: "Epochs", step: "1", min: "1", hint: "How often each row is learned." },
  { name: "batch_size", label: "Batch size", step: "1", min: "1", hint: "Rows of one step." },
  {
    name: "learning_rate_multiplier",
    label: "Learning rate multiplier",
    step: "any",
    min: "0.0001",
    hint: "1 is the method's own.",
  },
  {
    name: "beta",
    label: "Beta",
    step: "any",
    min: "0.0001",
    hint: "How close to the base the answers stay.",
    only: "dpo",
  },
] as const;

export type SettingName = (typeof SETTINGS)[number]["name"];

/** What was filled in. An empty setting is left to the service. */
export interface Form {
  model: string;
  training: string;
  validation: string;
  method: MethodType;
  settings: Record<SettingName, string>;
  suffix: string;
  seed: string;
}

export const EMPTY: Form = {
  model: "",
  training: "",
  validation: "",
  method: "supervised",
  settings: { n_epochs: "", batch_size: "", learning_rate_multiplier: "", beta: "" },
  suffix: "",
  seed: "",
};

/** Return the form that makes a job again. */
export function formOf(job: Job): Form {
  const given = hyperparametersOf(job);
  const text = (name: SettingName): string => (typeof given[name] === "number" ? String(given[name]) : "");
  return {
    model: job.model,
    training: job.training_file,
    validation: job.validation_file ?? "",
    method: job.method?.type ?? "supervised",
    settings: {
      n_epochs: text("n_epochs"),
      batch_size: text("batch_size"),
      learning_rate_multiplier: text("learning_rate_multiplier"),
      beta: text("beta"),
    },
    suffix: suffixOf(job),
    seed: String(job.seed),
  };
}

/** Return the request of a form. */
export function requestOf(form: Form): JobRequest {
  const hyperparameters: Hyperparameters = {};
  for (const { name, ...setting } of SETTINGS) {
    if ("only" in setting && setting.only !== form.method) continue;
    const text = form.settings[name].trim();
    if (text) hyperparameters[name] = Number(text) as Setting;
  }
  const method = Object.keys(hyperparameters).length > 0 ? { [form.method]: { hyperparameters } } : {};
  return {
    model: form.model,
    training_file: form.training,
    ...(form.validation ? { validation_file: form.validation } : {}),
    method: { type: form.method, ...method },
    ...(form.suffix.trim() ? { suffix: form.suffix.trim() } : {}),
    ...(form.seed.trim() ? { seed: Number(form.seed) } : {}),
  };
}
