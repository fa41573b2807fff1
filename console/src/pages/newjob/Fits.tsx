import type { Fit } from "../../api/console";
import { formatBytes, formatDollars, formatDuration } from "../../format";

/** The machines, and whether a job fits on each. */
export function Fits({ fits }: { fits: Fit[] }) {
  if (fits.length === 0) return null;
  return (
    <ul className="fits">
      {fits.map((fit, index) => (
        <li key={index} className={fit.isChosen ? "chosen" : ""}>
          <span className={fit.fits ? "mark good" : "mark bad"}>
            <span aria-hidden="true">{fit.fits ? "✓" : "✕"}</span>
            <span className="hidden">{fit.fits ? "Fits:" : "Does not fit:"}</span>
          </span>
          <span className="fit-name">
            {fit.device}
            <span className="muted small">
              {[fit.method, fit.strategy, fit.isChosen && "chosen"].filter(Boolean).join(" · ")}
            </span>
          </span>
          <span className="fit-numbers">
            {memoryOf(fit)}
            <span className="muted small">
              {[fit.seconds != null && formatDuration(fit.seconds), fit.cost != null && formatDollars(fit.cost)]
                .filter(Boolean)
                .join(" · ")}
            </span>
          </span>
        </li>
      ))}
    </ul>
  );
}

function memoryOf(fit: Fit): string {
  if (fit.memory == null) return "";
  return fit.available == null
    ? formatBytes(fit.memory)
    : `${formatBytes(fit.memory)} of ${formatBytes(fit.available)}`;
}
