import { useEffect, useRef, useState, type ReactNode } from "react";
import { Account } from "./Account";
import { linkTo } from "./router";
import { useSession } from "./session";
import { FilesIcon, JobsIcon, KeysIcon, MenuIcon, ModelsIcon, NewIcon, PlaygroundIcon, UsageIcon } from "./ui/icons";

const SCREENS = [
  ["jobs", "Jobs", JobsIcon],
  ["new", "New job", NewIcon],
  ["models", "Models", ModelsIcon],
  ["playground", "Playground", PlaygroundIcon],
  ["files", "Files", FilesIcon],
  ["usage", "Usage", UsageIcon],
  ["keys", "Keys", KeysIcon],
] as const;

const WITHOUT_CHANGES: readonly string[] = ["jobs", "models", "playground"];

/** The frame around each screen: the list of screens, who uses it, and the colours. */
export function Shell({
  section,
  screen,
  children,
}: {
  section: string | undefined;
  screen: string;
  children: ReactNode;
}) {
  const [isOpen, setOpen] = useState(false);
  const { canChange } = useSession();
  const screens = SCREENS.filter(([path]) => canChange || WITHOUT_CHANGES.includes(path));
  const main = useRef<HTMLElement>(null);
  const before = useRef(screen);
  useEffect(() => {
    const name = SCREENS.find(([path]) => path === section)?.[1];
    document.title = name === undefined ? "Tunesmith" : `${name} · Tunesmith`;
    if (before.current === screen || before.current === "") return;
    // Who reads by ear hears where they are now; at the first screen, the page's own title says it.
    main.current?.querySelector("h1")?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    setOpen(false);
  }, [section, screen]);
  useEffect(() => {
    before.current = screen;
  }, [screen]);
  return (
    <div className="shell">
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header className="sidebar">
        <div className="brand">
          <img src="./icon.svg" alt="" width="28" height="28" />
          <span>Tunesmith</span>
          <button
            type="button"
            className="icon-button menu"
            aria-expanded={isOpen}
            aria-controls="navigation"
            aria-label="Menu"
            onClick={() => setOpen(!isOpen)}
          >
            <MenuIcon />
          </button>
        </div>
        <div id="navigation" className={isOpen ? "open" : ""}>
          <nav aria-label="Screens">
            <ul>
              {screens.map(([path, name, Icon]) => (
                <li key={path}>
                  <a href={linkTo([path])} aria-current={path === section ? "page" : undefined}>
                    <Icon />
                    {name}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <Account />
        </div>
      </header>
      <main ref={main} id="main" tabIndex={-1}>
        {children}
      </main>
    </div>
  );
}
