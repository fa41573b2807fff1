/** What the OpenAI-compatible routes answer. */

export interface Page<T> {
  data: T[];
  has_more: boolean;
  last_id?: string | null;
}

export type JobStatus =
  "validating_files" | "queued" | "running" | "pausing" | "paused" | "succeeded" | "failed" | "cancelled";

export type Setting = number | "auto";
export type Hyperparameters = Partial<Record<"n_epochs" | "batch_size" | "learning_rate_multiplier" | "beta", Setting>>;
export type MethodType = "supervised" | "dpo";

export interface Method {
  type: MethodType;
  supervised?: { hyperparameters?: Hyperparameters };
  dpo?: { hyperparameters?: Hyperparameters };
}

export interface Job {
  id: string;
  model: string;
  status: JobStatus;
  created_at: number;
  finished_at: number | null;
  estimated_finish: number | null;
  fine_tuned_model: string | null;
  training_file: string;
  validation_file: string | null;
  result_files: string[];
  trained_tokens: number | null;
  error: { code: string; message: string; param: string | null } | null;
  method?: Method;
  hyperparameters: Hyperparameters;
  seed: number;
  metadata: Record<string, string> | null;
}

export interface JobEvent {
  id: string;
  created_at: number;
  level: "info" | "warn" | "error";
  type: "message" | "metrics";
  message: string;
  data: { step?: number; total_steps?: number; train_loss?: number; valid_loss?: number } | null;
}

export interface Checkpoint {
  id: string;
  step_number: number;
  created_at: number;
  fine_tuned_model_checkpoint: string;
  metrics: Record<string, number | null>;
}

export interface FileObject {
  id: string;
  bytes: number;
  created_at: number;
  expires_at: number | null;
  filename: string;
  purpose: string;
  status: string;
  status_details: string | null;
}

export interface Model {
  id: string;
  created: number;
  owned_by: string;
}

export interface ApiKey {
  id: string;
  name: string;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
  redacted_value: string;
  owner?: { service_account?: { role?: string } };
}

export interface NewKey extends ApiKey {
  value: string;
  scopes: string[];
}

export interface Bucket<T> {
  start_time: number;
  end_time: number;
  results: T[];
}
