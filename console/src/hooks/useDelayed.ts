import { useEffect, useState } from "react";

/** Return a value once its text has not changed for a while. */
export function useDelayed<T>(value: T, milliseconds: number, text: string): T {
  const [delayed, setDelayed] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setDelayed(value), milliseconds);
    return () => clearTimeout(timer);
  }, [text, milliseconds]);
  return delayed;
}
