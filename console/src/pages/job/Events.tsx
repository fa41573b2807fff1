import { useState } from "react";
import type { JobEvent } from "../../api/types";
import { formatClock, formatMoment } from "../../format";
import { Card, Empty } from "../../ui/basics";

/** What has happened to a job, the newest first. */
export function Events({ events, isLive }: { events: JobEvent[]; isLive: boolean }) {
  const [showsSteps, setShows] = useState(true);
  const shown = events.filter((event) => showsSteps || event.type !== "metrics").toReversed();
  return (
    <Card
      title="Events"
      note={
        <label className="check">
          <input type="checkbox" checked={showsSteps} onChange={(event) => setShows(event.target.checked)} />
          Steps too
        </label>
      }
    >
      {shown.length === 0 ? (
        <Empty title={isLive ? "Nothing has happened yet" : "There are no events"} />
      ) : (
        <ol className="events" tabIndex={0} aria-label="Events, the newest first">
          {shown.map((event) => (
            <li key={event.id} className={event.level}>
              <time dateTime={new Date(event.created_at * 1000).toISOString()} title={formatMoment(event.created_at)}>
                {formatClock(event.created_at)}
              </time>
              <span>
                {event.level !== "info" && <strong>{event.level === "warn" ? "Warning: " : "Error: "}</strong>}
                {event.message}
              </span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}
