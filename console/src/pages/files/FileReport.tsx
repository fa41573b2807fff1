import { getFileReport, type FileReport as Report } from "../../api/console";
import { formatNumber } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { Card, ErrorText, Loading } from "../../ui/basics";
import { Lengths } from "./Lengths";
import { Preview } from "./Preview";
import { Problems } from "./Problems";

/** What was found in a file of examples. */
export function FileReport({ id, model }: { id: string; model?: string | undefined }) {
  const { data, error, isLoading } = useQuery((signal) => getFileReport(id, model, signal), [id, model]);
  if (error) return <ErrorText error={error} />;
  if (isLoading) return <Loading />;
  if (!data) return null;
  return (
    <Card title="Report" note={data.isWhole === false ? "on the beginning of the file" : (data.format ?? undefined)}>
      <Numbers report={data} />
      <Problems problems={data.problems ?? []} />
      <Lengths lengths={data.lengths} />
      <Preview rows={data.preview} />
    </Card>
  );
}

function Numbers({ report }: { report: Report }) {
  const items = [
    ["Rows", report.rows],
    ["Tokens", report.tokens],
    ["Duplicates", report.duplicates],
  ].filter((item): item is [string, number] => typeof item[1] === "number");
  return (
    <dl className="numbers">
      {items.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{formatNumber(value)}</dd>
        </div>
      ))}
    </dl>
  );
}
