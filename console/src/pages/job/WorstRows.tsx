import type { WorstRow } from "../../api/console";
import { formatMeasure } from "../../format";
import { Card } from "../../ui/basics";

/** The rows that the model does worst at. */
export function WorstRows({ rows }: { rows: WorstRow[] | null | undefined }) {
  if (!rows || rows.length === 0) return null;
  return (
    <Card title="Worst rows" note="Validation rows whose answers are furthest from what was expected.">
      <ol className="worst">
        {rows.map((row, index) => (
          <li key={index}>
            <details open={index === 0}>
              <summary>
                <span className="worst-prompt">{row.prompt || row.location || `Row ${row.row ?? index}`}</span>
                {row.score != null && <span className="muted small">{Math.round(row.score * 100)}% alike</span>}
              </summary>
              <dl>
                {answersOf(row).map(([name, text]) => (
                  <div key={name}>
                    <dt>{name}</dt>
                    <dd>{text}</dd>
                  </div>
                ))}
              </dl>
              {(row.location ?? row.row) != null && (
                <p className="muted small">
                  {row.location ?? `Row ${row.row}`}
                  {row.score != null && ` · score ${formatMeasure(row.score)}`}
                </p>
              )}
            </details>
          </li>
        ))}
      </ol>
    </Card>
  );
}

function answersOf(row: WorstRow): [string, string][] {
  const served = Object.entries(row.served ?? {}).map(([precision, text]) => [`Served, ${precision}`, text]);
  const all = [["Expected", row.reference], ["Before", row.before], ["After", row.after], ...served];
  return all.filter((pair): pair is [string, string] => pair[1] != null && pair[1] !== "");
}
