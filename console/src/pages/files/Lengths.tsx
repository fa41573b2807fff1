import type { Lengths as Found } from "../../api/console";
import { formatNumber, wordsOf } from "../../format";
import { BarChart } from "../../ui/charts/BarChart";

const SHOWN = ["shortest", "median", "percentile95", "longest", "limit"] as const;
const NAMES: Record<string, string> = { percentile95: "95% are below", limit: "Cut above" };

/** How long the rows are. */
export function Lengths({ lengths }: { lengths: Found | null | undefined }) {
  if (!lengths || lengths.histogram.length === 0) return null;
  const items = SHOWN.filter((name) => lengths[name] != null);
  return (
    <div>
      <h3>{wordsOf(lengths.unit)} in a row</h3>
      <dl className="numbers small-numbers">
        {items.map((name) => (
          <div key={name}>
            <dt>{NAMES[name] ?? wordsOf(name)}</dt>
            <dd>{formatNumber(lengths[name] ?? 0)}</dd>
          </div>
        ))}
      </dl>
      <BarChart
        label={`Rows by ${lengths.unit}`}
        across={wordsOf(lengths.unit)}
        height={150}
        parts={[{ name: "Rows", look: "main" }]}
        bars={lengths.histogram.map(({ from, to, rows }) => ({
          name: from === to ? `${from}` : `${from}–${to}`,
          values: [rows],
        }))}
      />
    </div>
  );
}
