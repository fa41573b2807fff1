import { useId, useState, type KeyboardEvent, type ReactNode } from "react";

/** Several contents in one place; the arrow keys go from one to the next. */
export function Tabs({ label, tabs }: { label: string; tabs: readonly (readonly [string, ReactNode])[] }) {
  const [chosen, setChosen] = useState(0);
  const id = useId();
  const shown = Math.min(chosen, tabs.length - 1);
  const move = (event: KeyboardEvent<HTMLDivElement>): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = (shown + step + tabs.length) % tabs.length;
    setChosen(next);
    event.currentTarget.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus();
  };
  return (
    <div className="tabs">
      <div role="tablist" aria-label={label} onKeyDown={move}>
        {tabs.map(([name], index) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`${id}-tab-${index}`}
            aria-selected={index === shown}
            aria-controls={`${id}-panel`}
            tabIndex={index === shown ? 0 : -1}
            onClick={() => setChosen(index)}
          >
            {name}
          </button>
        ))}
      </div>
      <div role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-tab-${shown}`}>
        {tabs[shown]?.[1]}
      </div>
    </div>
  );
}
