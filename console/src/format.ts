/** Numbers and times as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: 4 });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hour12: false });

export const formatNumber = (value: number): string => plain.format(value);
export const formatCompact = (value: number): string => compact.format(value);
export const formatDollars = (value: number): string => dollars.format(value);
export const formatMoment = (seconds: number): string => moment.format(seconds * 1000);
export const formatDay = (seconds: number): string => day.format(seconds * 1000);
export const formatClock = (seconds: number): string => clock.format(seconds * 1000);

/** Return a number with as many digits as tell it from its neighbours. */
export function formatMeasure(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  return size >= 1000 ? formatNumber(Math.round(value)) : String(Number(value.toPrecision(4)));
}

export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(3))} ${units[unit]}`;
}

export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole === 0 && seconds >= 0) return "under 1 s";
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

/** Return a duration that is an estimate. */
export function formatAbout(seconds: number): string {
  return seconds < 90 ? formatDuration(seconds) : formatDuration(Math.round(seconds / 60) * 60).replace(" 0 s", "");
}

export function formatAgo(seconds: number): string {
  const age = Date.now() / 1000 - seconds;
  if (age < 60) return "just now";
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86_400) return `${Math.floor(age / 3600)} h ago`;
  if (age < 30 * 86_400) return `${Math.floor(age / 86_400)} d ago`;
  return formatMoment(seconds);
}

/** Return a field's name as words: `peakMemoryBytes` is "Peak memory bytes". */
export function wordsOf(name: string): string {
  const words = name
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replaceAll(/[_-]+/g, " ")
    .toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Return the value of a field by what its name says it is. */
export function formatFact(name: string, value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (/seconds$/i.test(name)) return formatDuration(value);
    if (/(bytes|memory)$/i.test(name)) return formatBytes(value);
    if (/(cost|dollars)$/i.test(name)) return formatDollars(value);
    return formatMeasure(value);
  }
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map((item) => formatFact(name, item)).join(", ");
  return Object.entries(value)
    .map(([key, item]) => `${wordsOf(key)} ${formatFact(key, item)}`)
    .join(" · ");
}
