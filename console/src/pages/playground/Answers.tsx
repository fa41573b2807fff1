import type { CSSProperties } from "react";
import { formatMeasure } from "../../format";
import type { Answer, Turn } from "./useConversation";

/** The questions, and below each what the models answer. */
export function Answers({ turns }: { turns: Turn[] }) {
  if (turns.length === 0) return null;
  return (
    <ol className="turns">
      {turns.map((turn, index) => (
        <li key={index}>
          <p className="question">{turn.question}</p>
          <div className="answers" style={{ "--places": turn.answers.length } as CSSProperties}>
            {turn.answers.map((answer, place) => (
              <OneAnswer key={place} answer={answer} />
            ))}
          </div>
        </li>
      ))}
    </ol>
  );
}

function OneAnswer({ answer }: { answer: Answer }) {
  return (
    <div className="answer" role="group" aria-label={`Answer of ${answer.model}`} aria-busy={!answer.isDone}>
      <h2 className="mono small">{answer.model}</h2>
      {answer.text && <p className="answer-text">{answer.text}</p>}
      {answer.error !== undefined && (
        <p className="error-text" role="alert">
          {answer.error}
        </p>
      )}
      {!answer.isDone && (
        <p className="muted small">
          {answer.text ? "Writing …" : "Waiting; a model that sleeps takes a moment to wake …"}
        </p>
      )}
      {answer.isDone && answer.seconds !== undefined && (
        <p className="muted small">{formatMeasure(answer.seconds)} s</p>
      )}
    </div>
  );
}
