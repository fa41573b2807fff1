/** What all charts have: a legend, and their numbers as a table for those who do not see them. */

export function Legend({ items }: { items: [string, string][] }) {
  return (
    <ul className="legend">
      {items.map(([name, look]) => (
        <li key={name}>
          <span className={`swatch ${look}`} aria-hidden="true" />
          {name}
        </li>
      ))}
    </ul>
  );
}

const MOST_ROWS = 500;

export function DataTable({ label, head, rows }: { label: string; head: string[]; rows: string[][] }) {
  return (
    <details className="chart-data">
      <summary>Numbers</summary>
      <div className="scroll" tabIndex={0} role="region" aria-label={`Numbers of ${label}`}>
        <table>
          <thead>
            <tr>
              {head.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(-MOST_ROWS).map((row) => (
              <tr key={row[0]}>
                {row.map((cell, index) => (
                  <td key={head[index]}>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
