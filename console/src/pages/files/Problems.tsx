import type { Problem } from "../../api/console";

/** What is wrong with a file: errors stop a job, warnings do not. */
export function Problems({ problems }: { problems: Problem[] }) {
  if (problems.length === 0) return <p className="fine">No problems were found.</p>;
  return (
    <ul className="problems">
      {problems.map((problem, index) => (
        <li key={index} className={problem.level}>
          <strong>{problem.level === "error" ? "Error: " : "Warning: "}</strong>
          {problem.message}
          {linesOf(problem) && <span className="muted small"> ({linesOf(problem)})</span>}
        </li>
      ))}
    </ul>
  );
}

function linesOf(problem: Problem): string {
  const lines = (problem.examples ?? []).map((places) => places.filter((line) => line !== null).join(" and "));
  return lines.length === 0 ? "" : `lines ${lines.join("; ")}`;
}
