import { useState } from "react";

export type Theme = "system" | "light" | "dark";

const STORED = "tunesmith-theme";

/** Return the colours that were chosen, and how to choose others. The browser keeps the choice. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState((document.documentElement.dataset["theme"] as Theme | undefined) ?? "system");
  const choose = (next: Theme): void => {
    setTheme(next);
    if (next === "system") {
      delete document.documentElement.dataset["theme"];
      localStorage.removeItem(STORED);
    } else {
      document.documentElement.dataset["theme"] = next;
      localStorage.setItem(STORED, next);
    }
  };
  return [theme, choose];
}
