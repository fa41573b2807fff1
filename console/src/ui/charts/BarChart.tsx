import { useState } from "react";
import { formatCompact, formatNumber } from "../../format";
import { useWidth } from "../../hooks/useWidth";
import { DataTable, Legend } from "./parts";
import { rangeOf, scaled, ticksOf } from "./scale";

export interface Bar {
  name: string;
  values: number[];
}

export interface Part {
  name: string;
  look: "main" | "second";
}

const INSET = { top: 12, right: 8, bottom: 28, left: 48 };
const WIDEST = 36;
const NAME_WIDTH = 64;

/** Stacked bars, such as one a day. */
export function BarChart({
  label,
  across,
  parts,
  bars,
  format = formatNumber,
  height = 240,
}: {
  label: string;
  across: string;
  parts: Part[];
  bars: Bar[];
  format?: (value: number) => string;
  height?: number;
}) {
  const [box, width] = useWidth<HTMLDivElement>();
  const [at, setAt] = useState<number>();
  const totals = bars.map(({ values }) => values.reduce((total, value) => total + value, 0));
  const range = rangeOf([...totals, 0], true);
  const y = scaled(range, [height - INSET.bottom, INSET.top]);
  const room = (width - INSET.left - INSET.right) / Math.max(1, bars.length);
  const thick = Math.max(1, Math.min(WIDEST, room * 0.7));
  const every = Math.max(1, Math.ceil(NAME_WIDTH / Math.max(1, room)));
  const shown = at === undefined ? undefined : bars[at];
  const summary = `${label}: ${format(totals.reduce((total, value) => total + value, 0))} in ${bars.length} bars`;
  return (
    <figure className="chart">
      {parts.length > 1 && <Legend items={parts.map(({ name, look }) => [name, look])} />}
      <div ref={box} className="chart-box">
        {width > 0 && (
          <svg role="img" aria-label={summary} width={width} height={height} onPointerLeave={() => setAt(undefined)}>
            {ticksOf(0, range[1], 4).map((tick) => (
              <g key={tick}>
                <line className="grid" x1={INSET.left} x2={width - INSET.right} y1={y(tick)} y2={y(tick)} />
                <text className="tick" x={INSET.left - 8} y={y(tick) + 4} textAnchor="end">
                  {formatCompact(tick)}
                </text>
              </g>
            ))}
            {bars.map((bar, index) => {
              const center = INSET.left + (index + 0.5) * room;
              let below = 0;
              return (
                <g key={bar.name} onPointerEnter={() => setAt(index)} className={index === at ? "bar active" : "bar"}>
                  <rect
                    className="catch"
                    x={center - room / 2}
                    width={room}
                    y={INSET.top}
                    height={height - INSET.top - INSET.bottom}
                  />
                  {parts.map(({ name, look }, part) => {
                    const value = bar.values[part] ?? 0;
                    const [from, to] = [y(below), y(below + value)];
                    below += value;
                    return (
                      value > 0 && (
                        <rect
                          key={name}
                          className={look}
                          x={center - thick / 2}
                          width={thick}
                          y={to}
                          height={Math.max(1, from - to)}
                          rx={Math.min(2, thick / 4)}
                        />
                      )
                    );
                  })}
                  {(bars.length - 1 - index) % every === 0 && (
                    <text className="tick" x={center} y={height - 8} textAnchor="middle">
                      {bar.name}
                    </text>
                  )}
                </g>
              );
            })}
          </svg>
        )}
        {shown !== undefined && at !== undefined && (
          <div
            className="tip"
            style={{ left: Math.max(0, Math.min(INSET.left + (at + 0.5) * room + 10, width - 160)) }}
          >
            <strong>{shown.name}</strong>
            {parts.map(({ name }, part) => (
              <span key={name}>
                {name} {format(shown.values[part] ?? 0)}
              </span>
            ))}
          </div>
        )}
      </div>
      <DataTable
        label={label}
        head={[across, ...parts.map(({ name }) => name)]}
        rows={bars.map((bar) => [bar.name, ...bar.values.map(format)])}
      />
    </figure>
  );
}
