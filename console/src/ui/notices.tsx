import { createContext, useCallback, useContext, useMemo, useRef, useState, type ReactNode } from "react";
import { CloseIcon } from "./icons";

type Kind = "info" | "error";

interface Notice {
  id: number;
  text: string;
  kind: Kind;
}

const Notices = createContext<{ notify: (text: string, kind?: Kind) => void }>({ notify: () => {} });

export const useNotices = (): { notify: (text: string, kind?: Kind) => void } => useContext(Notices);

const SHOWN_MILLISECONDS = 5000;

/** Short messages in the corner. An error stays until it is closed. */
export function NoticeProvider({ children }: { children: ReactNode }) {
  const [notices, setNotices] = useState<Notice[]>([]);
  const next = useRef(0);
  const close = useCallback((id: number) => setNotices((all) => all.filter((notice) => notice.id !== id)), []);
  const notify = useCallback(
    (text: string, kind: Kind = "info") => {
      const id = next.current++;
      setNotices((all) => [...all.slice(-3), { id, text, kind }]);
      if (kind === "info") setTimeout(() => close(id), SHOWN_MILLISECONDS);
    },
    [close],
  );
  const value = useMemo(() => ({ notify }), [notify]);
  return (
    <Notices value={value}>
      {children}
      <div className="notices" role="status" aria-live="polite">
        {notices.map((notice) => (
          <div key={notice.id} className={`notice ${notice.kind}`}>
            <span>{notice.text}</span>
            <button
              type="button"
              className="icon-button"
              aria-label="Close the message"
              onClick={() => close(notice.id)}
            >
              <CloseIcon />
            </button>
          </div>
        ))}
      </div>
    </Notices>
  );
}
