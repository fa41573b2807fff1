import { useCallback, useState } from "react";
import { useNotices } from "../ui/notices";

export interface Action<A extends unknown[]> {
  run: (...args: A) => Promise<void>;
  isRunning: boolean;
}

/** Return something that a person starts: once at a time, and its failure is shown. */
export function useAction<A extends unknown[]>(act: (...args: A) => Promise<void>): Action<A> {
  const [isRunning, setRunning] = useState(false);
  const { notify } = useNotices();
  const run = useCallback(
    async (...args: A) => {
      setRunning(true);
      try {
        await act(...args);
      } catch (failure) {
        notify((failure as Error).message, "error");
      } finally {
        setRunning(false);
      }
    },
    [act, notify],
  );
  return { run, isRunning };
}
