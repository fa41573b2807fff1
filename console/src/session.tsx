import { createContext, useCallback, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { ApiError, currentKey, request, send, setKey, whenRefused } from "./api/client";
import { chooseProject, getSession, type Provider, type Session } from "./api/console";

interface Signed {
  session: Session;
  /** Whether things can be made and changed. */
  canChange: boolean;
  signOut: () => void;
  /** Work in another project that is open to this person. */
  choose: (project: string) => Promise<void>;
}

type State = { is: "asking" } | { is: "out"; providers: Provider[]; error?: string } | { is: "in"; session: Session };

const Context = createContext<Signed | null>(null);

/** Return who uses the console. */
export function useSession(): Signed {
  const found = useContext(Context);
  if (found === null) throw new Error("useSession is for what SessionProvider contains");
  return found;
}

/** Ask who we are. A service without these routes tells by its list of models whether it takes the key. */
async function ask(): Promise<Session> {
  try {
    return await getSession();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    if (currentKey() !== null) await request("/v1/models");
    return currentKey() === null ? {} : { project: null };
  }
}

const isSigned = (session: Session): boolean => currentKey() !== null || Boolean(session.person ?? session.project);

export function SessionProvider({
  children,
  signedOut,
}: {
  children: ReactNode;
  signedOut: (providers: Provider[], signIn: (key: string) => Promise<void>, error?: string) => ReactNode;
}) {
  const [state, setState] = useState<State>({ is: "asking" });

  const look = useCallback(async () => {
    try {
      const session = await ask();
      const providers = session.providers ?? [];
      setState(isSigned(session) ? { is: "in", session } : { is: "out", providers });
    } catch (error) {
      const hadKey = currentKey() !== null;
      if (error instanceof ApiError && error.status === 401) setKey(null);
      const providers = await getSession().then(
        (session) => session.providers ?? [],
        () => [],
      );
      const message =
        hadKey || !(error instanceof ApiError && error.status === 401) ? (error as Error).message : undefined;
      setState({ is: "out", providers, ...(message === undefined ? {} : { error: message }) });
    }
  }, []);

  const signIn = useCallback(
    async (key: string) => {
      setKey(key);
      await look();
    },
    [look],
  );
  const signOut = useCallback(() => {
    const hadKey = currentKey() !== null;
    setKey(null);
    if (hadKey) void look();
    else void send("/console/api/logout", { method: "POST" }).finally(() => void look());
  }, [look]);

  const choose = useCallback(async (project: string) => {
    await chooseProject(project);
    window.location.reload(); // what is shown belongs to the project before
  }, []);

  useEffect(() => {
    void look();
  }, [look]);
  useEffect(() => {
    whenRefused(() => {
      if (state.is === "in") void look();
    });
  }, [state.is, look]);

  const value = useMemo(
    () =>
      state.is === "in"
        ? { session: state.session, canChange: state.session.mode !== "workFolder", signOut, choose }
        : null,
    [state, signOut, choose],
  );
  if (state.is === "asking") return null;
  if (state.is === "out") return signedOut(state.providers, signIn, state.error);
  return <Context value={value}>{children}</Context>;
}
