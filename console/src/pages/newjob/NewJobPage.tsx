import { useCallback, useEffect, useState, type FormEvent } from "react";
import { createJob, getJob } from "../../api/jobs";
import { kindOf, listModels } from "../../api/models";
import { useAction } from "../../hooks/useAction";
import { useDelayed } from "../../hooks/useDelayed";
import { useQuery } from "../../hooks/useQuery";
import { goTo } from "../../router";
import { Button, Card, ErrorText, Header, LOADING } from "../../ui/basics";
import { SelectField } from "../../ui/fields";
import { useNotices } from "../../ui/notices";
import { DataFields } from "./DataFields";
import { EMPTY, formOf, requestOf, type Form } from "./form";
import { MethodFields } from "./MethodFields";
import { PlanPanel } from "./PlanPanel";

const PLAN_MILLISECONDS = 500;

/** One form for a job; what it fits on, what it costs and its YAML stand beside it before it is started. */
export function NewJobPage({ from, file, model }: { from: string | null; file: string | null; model: string | null }) {
  const [form, setForm] = useState<Form>({ ...EMPTY, training: file ?? "", model: model ?? "" });
  const models = useQuery(listModels, []);
  const earlier = useQuery(async (signal) => (from === null ? null : await getJob(from, signal)), [from]);
  const { notify } = useNotices();
  const bases = (models.data ?? []).filter(({ id }) => kindOf(id) === "base");
  const change = useCallback((changes: Partial<Form>) => setForm((before) => ({ ...before, ...changes })), []);

  useEffect(() => {
    if (earlier.data) setForm(formOf(earlier.data));
  }, [earlier.data]);
  useEffect(() => {
    const first = models.data?.find(({ id }) => kindOf(id) === "base");
    if (first) setForm((before) => (before.model ? before : { ...before, model: first.id }));
  }, [models.data]);

  const start = useAction(
    useCallback(async () => {
      const job = await createJob(requestOf(form));
      notify("The job is started.");
      goTo(["jobs", job.id]);
    }, [form, notify]),
  );
  const request = useDelayed(requestOf(form), PLAN_MILLISECONDS, JSON.stringify(requestOf(form)));
  const isReady = form.model !== "" && form.training !== "";
  // A base's other names can be written too, such as those that scripts use.
  const names = [...new Set([...bases.map(({ id }) => id), form.model])].filter(Boolean);

  return (
    <>
      <Header
        title={from === null ? "New job" : "Again with changes"}
        note={from === null ? "Fine-tune a model on a file of examples." : `As ${from}, with what you change.`}
      />
      <ErrorText error={models.error ?? earlier.error} />
      <div className="new-job">
        <form
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            void start.run();
          }}
        >
          <Card title="Model">
            <SelectField
              label="Base model"
              required
              value={form.model}
              options={names.length === 0 ? [["", models.isLoading ? LOADING : "There are no base models"]] : names}
              onChange={(model) => change({ model })}
            />
          </Card>
          <DataFields form={form} onChange={change} />
          <MethodFields form={form} onChange={change} />
          <div className="start">
            <Button type="submit" look="primary" isBusy={start.isRunning} disabled={!isReady}>
              Start the job
            </Button>
            {!isReady && <span className="muted small">Choose a base model and a training file first.</span>}
          </div>
        </form>
        <PlanPanel request={request} isReady={isReady} />
      </div>
    </>
  );
}
