import type { PreviewPiece, PreviewRow } from "../../api/console";

/** The first rows as the model reads them; what it learns to write is marked. */
export function Preview({ rows }: { rows: PreviewRow[] | null | undefined }) {
  if (!rows || rows.length === 0) return null;
  return (
    <div>
      <h3>Some rows</h3>
      <p className="muted small">
        The model reads all of it, and learns to write what is <mark>marked</mark>.
      </p>
      <ol className="preview">
        {rows.map((row, index) => (
          <li key={row.line ?? index} tabIndex={0} aria-label={`Line ${row.line ?? index + 1}`}>
            {row.pieces.map((piece, at) => (
              <Piece key={at} piece={piece} />
            ))}
          </li>
        ))}
      </ol>
    </div>
  );
}

function Piece({ piece }: { piece: PreviewPiece }) {
  const look = piece.special ? "special" : undefined;
  return piece.trained ? <mark className={look}>{piece.text}</mark> : <span className={look}>{piece.text}</span>;
}
