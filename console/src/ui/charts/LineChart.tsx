import { useState, type KeyboardEvent, type PointerEvent } from "react";
import { formatMeasure, formatNumber } from "../../format";
import { useWidth } from "../../hooks/useWidth";
import { rangeOf, scaled, ticksOf } from "./scale";
import { DataTable, Legend } from "./parts";

export interface Line {
  name: string;
  look: "main" | "second" | "quiet";
  points: [number, number][];
}

const HEIGHT = 220;
const INSET = { top: 12, right: 12, bottom: 28, left: 52 };

/** Lines over steps. The values at a step are shown under the pointer, by the arrow keys, and as a table. */
export function LineChart({
  label,
  lines,
  across,
  mostAcross,
  fromZero = false,
}: {
  label: string;
  lines: Line[];
  across: string;
  mostAcross?: number | undefined;
  fromZero?: boolean;
}) {
  const [box, width] = useWidth<HTMLDivElement>();
  const [at, setAt] = useState<number>();
  const drawn = lines.filter((line) => line.points.length > 0);
  const all = drawn.flatMap((line) => line.points);
  if (all.length === 0) return null;

  const steps = [...new Set(all.map(([step]) => step))].sort((one, other) => one - other);
  const first = Math.min(steps[0] ?? 0, 0);
  const last = Math.max(steps.at(-1) ?? 1, mostAcross ?? 0, first + 1);
  const range = rangeOf(
    all.map(([, value]) => value),
    fromZero,
  );
  const x = scaled([first, last], [INSET.left, Math.max(INSET.left + 1, width - INSET.right)]);
  const y = scaled(range, [HEIGHT - INSET.bottom, INSET.top]);
  const step = at === undefined ? undefined : steps[Math.min(at, steps.length - 1)];

  const point = (event: PointerEvent<SVGSVGElement>): void => {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const distances = steps.map((each) => Math.abs(x(each) - left));
    setAt(distances.indexOf(Math.min(...distances)));
  };
  const press = (event: KeyboardEvent): void => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    setAt((before) => Math.max(0, Math.min(steps.length - 1, (before ?? steps.length) + move)));
  };

  return (
    <figure className="chart">
      <Legend items={drawn.map(({ name, look }) => [name, look])} />
      <div
        ref={box}
        className="chart-box"
        tabIndex={0}
        role="group"
        aria-label={`${label}; arrow keys read it`}
        onKeyDown={press}
        onBlur={() => setAt(undefined)}
      >
        {width > 0 && (
          <svg
            role="img"
            aria-label={summaryOf(label, drawn)}
            width={width}
            height={HEIGHT}
            onPointerMove={point}
            onPointerLeave={() => setAt(undefined)}
          >
            {ticksOf(range[0], range[1], 4).map((tick) => (
              <g key={tick}>
                <line className="grid" x1={INSET.left} x2={width - INSET.right} y1={y(tick)} y2={y(tick)} />
                <text className="tick" x={INSET.left - 8} y={y(tick) + 4} textAnchor="end">
                  {formatMeasure(tick)}
                </text>
              </g>
            ))}
            {ticksOf(first, last, width / 110)
              .filter(Number.isInteger)
              .map((tick) => (
                <text key={tick} className="tick" x={x(tick)} y={HEIGHT - 8} textAnchor="middle">
                  {formatNumber(tick)}
                </text>
              ))}
            {drawn.map((line) => (
              <g key={line.name} className={`line ${line.look}`}>
                <polyline points={line.points.map(([each, value]) => `${x(each)},${y(value)}`).join(" ")} />
                {line.points.length < 30 &&
                  line.points.map(([each, value]) => (
                    <circle key={each} cx={x(each)} cy={y(value)} r={line.points.length === 1 ? 3.5 : 2} />
                  ))}
              </g>
            ))}
            {step !== undefined && (
              <g>
                <line className="cross" x1={x(step)} x2={x(step)} y1={INSET.top} y2={HEIGHT - INSET.bottom} />
                {drawn.map((line) => {
                  const value = valueAt(line, step);
                  return value === undefined ? null : (
                    <circle key={line.name} className={`dot ${line.look}`} cx={x(step)} cy={y(value)} r={4} />
                  );
                })}
              </g>
            )}
          </svg>
        )}
        {step !== undefined && (
          <div className="tip" style={{ left: Math.max(0, Math.min(x(step) + 10, width - 160)) }} aria-live="polite">
            <strong>
              {across} {formatNumber(step)}
            </strong>
            {drawn.map((line) => {
              const value = valueAt(line, step);
              return value === undefined ? null : (
                <span key={line.name}>
                  {line.name} {formatMeasure(value)}
                </span>
              );
            })}
          </div>
        )}
      </div>
      <DataTable
        label={label}
        head={[across, ...drawn.map(({ name }) => name)]}
        rows={steps.map((each) => [formatNumber(each), ...drawn.map((line) => textOf(valueAt(line, each)))])}
      />
    </figure>
  );
}

const valueAt = (line: Line, step: number): number | undefined => line.points.find(([each]) => each === step)?.[1];
const textOf = (value: number | undefined): string => (value === undefined ? "" : formatMeasure(value));

function summaryOf(label: string, lines: Line[]): string {
  const parts = lines.map(({ name, points }) => {
    const [from, to] = [points[0]?.[1] ?? 0, points.at(-1)?.[1] ?? 0];
    return `${name} from ${formatMeasure(from)} to ${formatMeasure(to)} over ${points.length} points`;
  });
  return `${label}: ${parts.join("; ")}`;
}
