import type { ReactNode } from "react";

export interface Column<T> {
  name: string;
  cell: (row: T) => ReactNode;
  /** Numbers are at the right, so that their digits stand below each other. */
  isNumber?: boolean;
  isAction?: boolean;
}

/** A table; on a small screen each row becomes a card. */
export function Table<T>({
  label,
  columns,
  rows,
  keyOf,
}: {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T, index: number) => string;
}) {
  const look = (column: Column<T>): string => (column.isNumber ? "number" : column.isAction ? "action" : "");
  return (
    <table className="table">
      <caption className="hidden">{label}</caption>
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column.name} scope="col" className={look(column)}>
              {column.isAction ? <span className="hidden">{column.name}</span> : column.name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={keyOf(row, index)}>
            {columns.map((column) => (
              <td key={column.name} className={look(column)} data-label={column.isAction ? undefined : column.name}>
                {column.cell(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
