import { useCallback, useEffect, useRef, useState, type DependencyList } from "react";

export interface Query<T> {
  data: T | undefined;
  error: Error | undefined;
  isLoading: boolean;
  reload: () => void;
}

interface Options {
  /** Load it again every so many milliseconds while the page is seen. */
  every?: number | undefined;
  /** What was loaded stays when the dependencies change, until the next is there. */
  keeps?: boolean;
}

/** Load something, again when `dependencies` change. */
export function useQuery<T>(
  load: (signal: AbortSignal) => Promise<T>,
  dependencies: DependencyList,
  { every, keeps = false }: Options = {},
): Query<T> {
  const [data, setData] = useState<T>();
  const [error, setError] = useState<Error>();
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    if (!keeps) setData(undefined);
    setError(undefined);
  }, dependencies);

  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = async (): Promise<void> => {
      try {
        if (!document.hidden || timer === undefined) {
          const found = await latest.current(stop.signal);
          if (stop.signal.aborted) return;
          setData(found);
          setError(undefined);
        }
      } catch (failure) {
        if (stop.signal.aborted) return;
        setError(failure as Error);
      }
      if (every !== undefined) timer = setTimeout(() => void next(), every);
    };
    void next();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [...dependencies, turn, every]);

  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { data, error, isLoading: data === undefined && error === undefined, reload };
}
