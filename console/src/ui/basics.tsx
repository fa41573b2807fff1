import type { ComponentProps, ReactNode } from "react";

type ButtonProps = ComponentProps<"button"> & {
  look?: "primary" | "plain" | "danger" | "quiet";
  isBusy?: boolean;
  /** Has the focus first in a dialog. */
  "data-first"?: boolean;
};

export function Button({ look = "plain", isBusy = false, className = "", disabled, children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={`button ${look} ${className}`}
      disabled={disabled || isBusy}
      aria-busy={isBusy || undefined}
      {...rest}
    >
      {children}
    </button>
  );
}

export function LinkButton({
  look = "plain",
  className = "",
  ...rest
}: ComponentProps<"a"> & { look?: ButtonProps["look"] }) {
  return <a className={`button ${look} ${className}`} {...rest} />;
}

/** The title of a screen, with what can be done on it. */
export function Header({ title, note, children }: { title: ReactNode; note?: ReactNode; children?: ReactNode }) {
  return (
    <header className="page-header">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        {note !== undefined && <p className="muted">{note}</p>}
      </div>
      {children !== undefined && <div className="actions">{children}</div>}
    </header>
  );
}

export function Card({
  title,
  note,
  children,
  className = "",
}: {
  title?: ReactNode;
  note?: ReactNode;
  children: ReactNode;
  className?: string;
}) {
  return (
    <section className={`card ${className}`}>
      {title !== undefined && (
        <div className="card-title">
          <h2>{title}</h2>
          {note !== undefined && <div className="muted small">{note}</div>}
        </div>
      )}
      {children}
    </section>
  );
}

export function ErrorText({ error }: { error: Error | undefined }) {
  return error === undefined ? null : (
    <p className="error-text" role="alert">
      {error.message}
    </p>
  );
}

/** What is said until something is there; a list of choices says it too. */
export const LOADING = "Loading …";

export function Loading() {
  return (
    <p className="muted loading" role="status">
      {LOADING}
    </p>
  );
}

/** What is shown where there is nothing yet. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children !== undefined && <div className="muted">{children}</div>}
    </div>
  );
}

/** Names and values: in lines, or as large numbers beside each other. */
export function Facts({ items, look = "facts" }: { items: [string, ReactNode][]; look?: "facts" | "numbers" | "totals" }) {
  return (
    <dl className={look}>
      {items.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Progress({ part, label }: { part: number | undefined; label: string }) {
  const percent = part === undefined ? undefined : Math.round(Math.min(1, part) * 100);
  return (
    <div
      className={`progress ${percent === undefined ? "unknown" : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
    >
      <div style={{ width: `${percent ?? 30}%` }} />
    </div>
  );
}
