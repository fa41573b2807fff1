import { useSession } from "./session";
import { useTheme, type Theme } from "./theme";
import { SignOutIcon } from "./ui/icons";

/** Who uses the console, in which project, and with which colours. */
export function Account() {
  const { session, canChange, signOut, choose } = useSession();
  const [theme, setTheme] = useTheme();
  const person = typeof session.person === "string" ? session.person : (session.person?.name ?? session.person?.email);
  const projects = session.projects ?? [];
  return (
    <div className="account">
      {(session.project || person) && (
        <div className="who">
          <span>{session.project?.name ?? person}</span>
          <span className="muted small">
            {[session.organization?.name, session.project && person].filter(Boolean).join(" · ")}
          </span>
        </div>
      )}
      {projects.length > 1 && (
        <label className="theme">
          <span>Project</span>
          <select value={session.project?.id} onChange={(event) => void choose(event.target.value)}>
            {projects.map((project) => (
              <option key={project.id} value={project.id}>
                {project.organization} / {project.name}
              </option>
            ))}
          </select>
        </label>
      )}
      <label className="theme">
        <span>Colours</span>
        <select value={theme} onChange={(event) => setTheme(event.target.value as Theme)}>
          <option value="system">As the system</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
      {canChange && (
        <button type="button" className="button quiet" onClick={signOut}>
          <SignOutIcon />
          Sign out
        </button>
      )}
    </div>
  );
}
