import { useCallback, useEffect, useRef, useState } from "react";
import { ask, type Message, type Sampling } from "../../api/models";

export interface Turn {
  question: string;
  /** What each place answers, by the place's number. */
  answers: Answer[];
}

export interface Answer {
  model: string;
  text: string;
  error?: string;
  isDone: boolean;
  seconds?: number;
}

export interface Conversation {
  turns: Turn[];
  isAsking: boolean;
  askAll: (question: string, models: string[], system: string, sampling: Sampling) => Promise<void>;
  stop: () => void;
  clear: () => void;
}

/** Ask several models the same, each with its own answers before. */
export function useConversation(): Conversation {
  const [turns, setTurns] = useState<Turn[]>([]);
  const [isAsking, setAsking] = useState(false);
  const stopper = useRef<AbortController>(null);
  useEffect(() => () => stopper.current?.abort(), []);

  const askAll = useCallback(
    async (question: string, models: string[], system: string, sampling: Sampling) => {
      const stop = new AbortController();
      stopper.current = stop;
      const at = turns.length;
      const answers = models.map((model): Answer => ({ model, text: "", isDone: false }));
      setTurns([...turns, { question, answers }]);
      setAsking(true);
      const change = (place: number, changed: (answer: Answer) => Answer): void =>
        setTurns((all) =>
          all.map((turn, index) =>
            index === at
              ? { ...turn, answers: turn.answers.map((answer, own) => (own === place ? changed(answer) : answer)) }
              : turn,
          ),
        );
      await Promise.all(
        models.map(async (model, place) => {
          const began = performance.now();
          try {
            const messages = messagesOf(turns, place, system, question);
            for await (const piece of ask(model, messages, sampling, stop.signal)) {
              change(place, (answer) => ({ ...answer, text: answer.text + piece }));
            }
          } catch (failure) {
            if (!stop.signal.aborted) change(place, (answer) => ({ ...answer, error: (failure as Error).message }));
          }
          change(place, (answer) => ({ ...answer, isDone: true, seconds: (performance.now() - began) / 1000 }));
        }),
      );
      setAsking(false);
    },
    [turns],
  );
  const stop = useCallback(() => stopper.current?.abort(), []);
  const clear = useCallback(() => {
    stopper.current?.abort();
    setTurns([]);
  }, []);
  return { turns, isAsking, askAll, stop, clear };
}

/** Return the messages that a place's model is asked with. */
export function messagesOf(turns: Turn[], place: number, system: string, question: string): Message[] {
  const messages: Message[] = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    const answer = turn.answers[place];
    if (answer === undefined || !answer.text) continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: answer.text });
  }
  return [...messages, { role: "user", content: question }];
}
