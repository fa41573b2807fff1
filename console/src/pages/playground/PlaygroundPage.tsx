import { useEffect, useMemo, useState, type FormEvent, type KeyboardEvent } from "react";
import { listModels } from "../../api/models";
import { useQuery } from "../../hooks/useQuery";
import { Button, Card, ErrorText, Header } from "../../ui/basics";
import { AreaField, SelectField, TextField } from "../../ui/fields";
import { Answers } from "./Answers";
import { firstModels, PLACES } from "./places";
import { Snippets } from "./Snippets";
import { messagesOf, useConversation } from "./useConversation";

/** Ask a base model, a tuned one and the one before beside each other. */
export function PlaygroundPage({ model }: { model: string | null }) {
  const { data: models, error } = useQuery(listModels, []);
  const [chosen, setChosen] = useState<string[]>(["", model ?? "", ""]);
  const [system, setSystem] = useState("");
  const [question, setQuestion] = useState("");
  const [temperature, setTemperature] = useState("0.7");
  const [most, setMost] = useState("256");
  const talk = useConversation();
  useEffect(() => {
    if (models) setChosen(firstModels(models, model));
  }, [models, model]);

  const names = useMemo(
    () => [...new Set([...(models ?? []).map(({ id }) => id), ...(model ? [model] : [])])],
    [models, model],
  );
  const asked = chosen.flatMap((name, place) => (name ? [place] : []));
  const shown = chosen[1] || chosen[0] || "";
  const send = (): void => {
    const text = question.trim();
    if (!text || talk.isAsking || asked.length === 0) return;
    setQuestion("");
    void talk.askAll(
      text,
      asked.map((place) => chosen[place] ?? ""),
      system.trim(),
      {
        temperature: Number(temperature),
        max_tokens: Number(most),
      },
    );
  };
  const choose = (place: number, name: string): void => {
    talk.clear();
    setChosen(chosen.map((before, index) => (index === place ? name : before)));
  };

  return (
    <>
      <Header title="Playground" note="The same question to several models, beside each other.">
        {talk.turns.length > 0 && <Button onClick={talk.clear}>Begin anew</Button>}
      </Header>
      <ErrorText error={error} />
      <div className="places">
        {PLACES.map((name, place) => (
          <SelectField
            key={name}
            label={name}
            value={chosen[place] ?? ""}
            options={[["", "None"], ...names]}
            onChange={(model) => choose(place, model)}
          />
        ))}
      </div>
      <Answers turns={talk.turns} />
      <form
        className="card ask"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          send();
        }}
      >
        <AreaField
          label="Question"
          rows={3}
          value={question}
          hint="Enter sends it; Shift and Enter begin a new line."
          onChange={(event) => setQuestion(event.target.value)}
          onKeyDown={(event: KeyboardEvent) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault();
              send();
            }
          }}
        />
        <div className="ask-row">
          <details>
            <summary>Settings</summary>
            <div className="fields">
              <TextField label="System message" value={system} onChange={(event) => setSystem(event.target.value)} />
              <TextField
                label="Temperature"
                type="number"
                min="0"
                max="2"
                step="0.1"
                value={temperature}
                onChange={(event) => setTemperature(event.target.value)}
              />
              <TextField
                label="Most tokens"
                type="number"
                min="1"
                value={most}
                onChange={(event) => setMost(event.target.value)}
              />
            </div>
          </details>
          {talk.isAsking ? (
            <Button onClick={talk.stop}>Stop</Button>
          ) : (
            <Button type="submit" look="primary" disabled={!question.trim() || asked.length === 0}>
              Ask
            </Button>
          )}
        </div>
      </form>
      {shown && (
        <Card title="The same by a program">
          <Snippets
            model={shown}
            messages={messagesOf([], 0, system.trim(), question.trim() || talk.turns.at(-1)?.question || "Hello")}
          />
        </Card>
      )}
    </>
  );
}
