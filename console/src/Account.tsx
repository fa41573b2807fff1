import { useSession } from "./session";
import { useTheme, type Theme } from "./theme";
import { Select } from "./ui/fields";
import { SignOutIcon } from "./ui/icons";

const THEMES = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
] as const;

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
          <Select
            value={session.project?.id}
            options={projects.map(({ id, organization, name }) => [id, `${organization} / ${name}`])}
            onChange={(id) => void choose(id)}
          />
        </label>
      )}
      <label className="theme">
        <span>Colours</span>
        <Select value={theme} options={THEMES} onChange={(value) => setTheme(value as Theme)} />
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
